"""Changes by key, planned: the files that a change adds and those that it takes out.

Knows copy-on-write: a file that holds a row that goes is written again without it. It commits nothing (see
`change`). Rows of one key are ordered by columns that the caller names, so that the last one wins in
whichever order they come, and the same rows may come twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa
from pyiceberg.table import Table as NativeTable

from rayplat.core.errors import UserError
from rayplat.data.lakehouse.columns import OFFSET
from rayplat.data.lakehouse.files import DataFile, FileWriter
from rayplat.data.lakehouse.matching import FILE, ROW, StoredFiles, stored_rows, with_keys
from rayplat.data.lakehouse.table import LakeTable

_NEW, _PLACE, _GONE = "_is_new", "_place", "_is_gone"
_DIGITS = 80  # of an offset as text: a Kinesis sequence number has 56


@dataclass(frozen=True, slots=True)
class Change:
    """A planned change of a table; nothing of it can be seen before it is committed.

    Attributes:
        added: files that are written and to be named; `removed`: addresses of live files to be taken out.
        based_on: the snapshot on which it was planned; None: the table had none.
        inserted, updated, deleted: rows, by key where the change is by key.
    """

    added: list[DataFile] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    based_on: int | None = None
    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def empty(self) -> bool:
        """Whether it would change nothing."""
        return not self.added and not self.removed


def merge(
    table: LakeTable,
    rows: pa.Table,
    key: Sequence[str],
    *,
    order_by: Sequence[str],
    deleted: str | None = None,
) -> Change:
    """Insert rows or replace those of the same key: the last one by `order_by` wins.

    Between equal ones a given row wins over a stored one, and the later given row over the earlier; a missing
    value of `order_by` is before every other. A deletion leaves no trace: a row of the key that is older
    than the deletion and comes after it is taken in.

    Args:
        rows: the table's columns, and `deleted` if it is named.
        key: the columns that name a row; no value may be missing.
        order_by: columns of the table; offsets as text are compared as numbers.
        deleted: a boolean column of `rows`, true where the row of the key is to be deleted.

    Raises:
        UserError: the key has nulls or a column is not there.
        IntegrityError: a file that would have to be written again is not what was written.
    """
    native = table.native()
    return merge_into(native, table.writer(), rows, key, order_by=order_by, deleted=deleted)


def merge_into(
    native: NativeTable,
    writer: FileWriter,
    rows: pa.Table,
    key: Sequence[str],
    *,
    order_by: Sequence[str],
    deleted: str | None = None,
) -> Change:
    """`merge` on a table as it was loaded."""
    _check(writer, rows, key, order_by, deleted)
    based_on = snapshot_of(native)
    if rows.num_rows == 0:
        return Change(based_on=based_on)
    given = _ordered(rows, key, order_by, deleted)
    stored = with_keys(native, writer, given.select(key).unique())
    found = stored_rows(stored, given.select(key).unique(), order_by)
    latest = _latest(given, _orderable(found, order_by), key, order_by)
    wins = latest.filter(pl.col(_NEW))
    replaced = found.join(wins, on=list(key), how="semi")
    kept = wins.filter(~pl.col(_GONE))
    known = found.select(key).unique()
    updated = kept.join(known, on=list(key), how="semi").height
    gone = wins.filter(pl.col(_GONE)).join(known, on=list(key), how="semi").height
    added, removed = _rewritten(stored, replaced)
    fresh = rows.select(writer.schema.names).take(kept[_PLACE].sort().to_arrow())
    return Change([*added, *writer.write(fresh)], removed, based_on, kept.height - updated, updated, gone)


def delete_keys(table: LakeTable, keys: pa.Table) -> Change:
    """Delete the rows that have one of the keys, whatever their order.

    Args:
        keys: the key's columns and no others.
    """
    return delete_keys_from(table.native(), table.writer(), keys)


def delete_keys_from(native: NativeTable, writer: FileWriter, keys: pa.Table) -> Change:
    """`delete_keys` on a table as it was loaded."""
    _check_key(writer, keys, keys.column_names)
    based_on = snapshot_of(native)
    wanted = pl.DataFrame(keys).unique()
    if wanted.height == 0:
        return Change(based_on=based_on)
    stored = with_keys(native, writer, wanted)
    found = stored_rows(stored, wanted, ())
    added, removed = _rewritten(stored, found)
    return Change(added, removed, based_on, deleted=found.height)


def snapshot_of(native: NativeTable) -> int | None:
    """The current snapshot of a table as it was loaded; None before the first."""
    current = native.current_snapshot()
    return current.snapshot_id if current else None


def _ordered(
    rows: pa.Table, key: Sequence[str], order_by: Sequence[str], deleted: str | None
) -> pl.DataFrame:
    """Key and order of the given rows, the last one of each key."""
    columns = list(dict.fromkeys([*key, *order_by, *([deleted] if deleted else [])]))
    frame = pl.DataFrame(rows.select(columns))
    gone = pl.col(deleted).fill_null(value=False) if deleted else pl.lit(value=False)
    frame = frame.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias(_PLACE),
        gone.alias(_GONE),
        pl.lit(value=True).alias(_NEW),
    )
    return _orderable(frame, order_by).select([*dict.fromkeys([*key, *order_by]), _PLACE, _GONE, _NEW])


def _orderable(frame: pl.DataFrame, order_by: Sequence[str]) -> pl.DataFrame:
    """Offsets that are digits in text as texts of one length, which compare as the numbers do."""
    if OFFSET in order_by and frame.schema[OFFSET] == pl.String:
        return frame.with_columns(pl.col(OFFSET).str.zfill(_DIGITS))
    return frame


def _latest(
    given: pl.DataFrame, found: pl.DataFrame, key: Sequence[str], order_by: Sequence[str]
) -> pl.DataFrame:
    """The last row of each given key among given and stored ones."""
    stored = found.with_columns(
        pl.lit(-1, pl.Int64).alias(_PLACE), pl.lit(value=False).alias(_GONE), pl.lit(value=False).alias(_NEW)
    ).select(given.columns)
    both = pl.concat([stored, given], how="vertical_relaxed")
    by = list(dict.fromkeys([*order_by, _PLACE]))
    last = both.sort(by, nulls_last=False, maintain_order=True)
    return last.unique(subset=list(key), keep="last", maintain_order=True)


def _rewritten(stored: StoredFiles, going: pl.DataFrame) -> tuple[list[DataFile], list[str]]:
    """Write each file that holds a row that goes without these rows; one at a time is in memory."""
    added: list[DataFile] = []
    removed: list[str] = []
    for number, rows in _by_file(going):
        added += stored.writer.write(stored.without(number, rows))
        removed.append(stored.path(number))
    return added, removed


def _by_file(rows: pl.DataFrame) -> Iterator[tuple[int, pl.Series]]:
    for (number,), part in rows.select(FILE, ROW).group_by(FILE, maintain_order=True):
        yield int(str(number)), part[ROW]


def _check(
    writer: FileWriter, rows: pa.Table, key: Sequence[str], order_by: Sequence[str], deleted: str | None
) -> None:
    _check_key(writer, rows, key)
    wanted = [*writer.schema.names, *([deleted] if deleted else [])]
    missing = [name for name in (*wanted, *order_by) if name not in rows.column_names]
    if missing:
        raise UserError(
            f"rows for table {writer.name} lack {', '.join(dict.fromkeys(missing))}",
            f"give: {', '.join(wanted)}",
        )


def _check_key(writer: FileWriter, rows: pa.Table, key: Sequence[str]) -> None:
    missing = [name for name in key if name not in rows.column_names or name not in writer.schema.names]
    if missing or not key:
        raise UserError(
            f"table {writer.name} or the rows have no key column {', '.join(missing) or 'at all'}",
            f"use columns of the table: {', '.join(writer.schema.names)}",
        )
    nulls = [name for name in key if rows[name].null_count]
    if nulls:
        raise UserError(
            f"the key column {nulls[0]} of {writer.name} has missing values", "set these rows aside"
        )

"""One table of the lakehouse: read at any snapshot, appended to, replaced.

Knows rows as Arrow; it does not know sources and their offsets (see `commit`).
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
from pyiceberg.exceptions import ResolveError
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.parser import parse
from pyiceberg.table import Table as NativeTable
from pyparsing import ParseBaseException

from rayplat.core.errors import ConflictError, NotFoundError, UserError
from rayplat.data.lakehouse.files import write_file
from rayplat.data.lakehouse.schema import plain
from rayplat.data.lakehouse.snapshot import ROWS, SnapshotAttempt, SnapshotInfo, describe, lineage

_RETRY_FOR_S = 120.0


class LakeTable:
    """A table by name. Every method sees the table as it is now, unless a snapshot is named.

    Args:
        name: `namespace.name`.
        load: gives the table freshly loaded from the catalog.
    """

    def __init__(self, name: str, load: Callable[[], NativeTable]) -> None:
        self.name = name
        self._load = load

    def native(self) -> NativeTable:
        """The pyiceberg table, freshly loaded; only for this package."""
        return self._load()

    def location(self) -> str:
        """Where the table's files are."""
        return str(self._load().location())

    def schema(self) -> pa.Schema:
        """The columns: types and nullability, without metadata."""
        return plain(self._load().schema().as_arrow())

    def file_schema(self) -> pa.Schema:
        """The columns with their Iceberg field ids: what a data file must be written with."""
        native = self._load().schema()
        return pa.schema(
            field.with_metadata({"PARQUET:field_id": str(native.find_field(field.name).field_id)})
            for field in plain(native.as_arrow())
        )

    def snapshot_id(self) -> int | None:
        """The current snapshot; None before the first."""
        snapshot = self._load().current_snapshot()
        return snapshot.snapshot_id if snapshot else None

    def history(self) -> list[SnapshotInfo]:
        """The snapshots that lead to the current one, oldest first."""
        return [describe(snapshot) for snapshot in lineage(self._load())][::-1]

    def count(self, snapshot_id: int | None = None) -> int:
        """How many rows there are, without reading any.

        Raises:
            NotFoundError: there is no such snapshot.
        """
        native = self._load()
        self._check_snapshot(native, snapshot_id)
        snapshot = native.snapshot_by_id(snapshot_id) if snapshot_id else native.current_snapshot()
        return describe(snapshot).rows_total if snapshot else 0

    def read(
        self, columns: Sequence[str] | None = None, snapshot_id: int | None = None, where: str | None = None
    ) -> pa.Table:
        """Read rows. The same snapshot gives the same rows in the same order.

        Args:
            columns: their names, in the order wanted; all if None.
            snapshot_id: the snapshot to read; the current one if None.
            where: an Iceberg row filter such as `"_partition = 0 and _offset >= 100"`; it prunes files.

        Raises:
            NotFoundError: there is no such snapshot or column.
            UserError: the filter cannot be read.
        """
        native = self._load()
        self._check_snapshot(native, snapshot_id)
        row_filter = _row_filter(where, self.name)
        selected = tuple(columns) if columns is not None else ("*",)
        try:
            scan = native.scan(row_filter=row_filter, selected_fields=selected, snapshot_id=snapshot_id)
            data = scan.to_arrow()
        except ResolveError as error:
            raise NotFoundError(
                f"table {self.name} has no such column: {error}",
                f"use: {', '.join(native.schema().column_names)}",
            ) from error
        except ValueError as error:
            raise self._unreadable(native, columns, where, error) from error
        data = data.select(list(columns)) if columns is not None else data
        return data.cast(plain(data.schema))

    def _unreadable(
        self, native: NativeTable, columns: Sequence[str] | None, where: str | None, error: ValueError
    ) -> UserError:
        known = native.schema().column_names
        unknown = [c for c in columns or () if c not in known]
        if unknown:
            return NotFoundError(
                f"table {self.name} has no column {', '.join(unknown)}", f"use: {', '.join(known)}"
            )
        return _bad_filter(where, self.name, error)

    def _check_snapshot(self, native: NativeTable, snapshot_id: int | None) -> None:
        if snapshot_id is not None and native.snapshot_by_id(snapshot_id) is None:
            raise NotFoundError(f"table {self.name} has no snapshot {snapshot_id}", "see the table's history")

    def write_file(self, data: pa.Table) -> str:
        """Write rows as a data file that no snapshot names yet.

        Returns:
            The file's address, for a commit.

        Raises:
            UserError: the rows do not fit the table's columns.
        """
        schema = self.file_schema()
        self._check_rows(data, schema)
        return write_file(data, schema, self.location())

    def append(self, data: pa.Table, properties: Mapping[str, str] | None = None) -> int:
        """Add rows in one snapshot; many writers may append at the same time.

        Returns:
            The snapshot's id.

        Raises:
            UserError: the rows do not fit the table's columns.
            ConflictError: other writers were faster for two minutes; nothing was written.
        """
        return self._commit(data, properties or {}, replace=False)

    def overwrite(self, data: pa.Table, properties: Mapping[str, str] | None = None) -> int:
        """Replace all rows in one snapshot; readers see the old rows or the new, never a mixture.

        Returns:
            The snapshot's id.

        Raises:
            UserError: the rows do not fit the table's columns.
            ConflictError: other writers were faster for two minutes; nothing was written.
        """
        return self._commit(data, properties or {}, replace=True)

    def _commit(self, data: pa.Table, properties: Mapping[str, str], *, replace: bool) -> int:
        files = [self.write_file(data)] if data.num_rows else []
        told = {ROWS: str(data.num_rows), **properties}
        deadline = time.monotonic() + _RETRY_FOR_S
        wait = 0.01
        while True:
            try:
                return SnapshotAttempt(self._load(), files, told, replace=replace).commit()
            except ConflictError:
                # Safe to repeat: a conflict wrote nothing, and the files are named by one snapshot only.
                if time.monotonic() > deadline:
                    raise
                time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  # jitter, not a secret
                wait = min(wait * 2, 0.5)

    def _check_rows(self, data: pa.Table, schema: pa.Schema) -> None:
        missing = [n for n in schema.names if n not in data.column_names]
        unknown = [n for n in data.column_names if n not in schema.names]
        if missing or unknown:
            raise UserError(
                f"rows for table {self.name} lack {missing or 'nothing'}, "
                f"and have unknown {unknown or 'nothing'}",
                f"give exactly: {', '.join(schema.names)}",
            )
        for field in schema:
            if not field.nullable and data[field.name].null_count:
                raise UserError(
                    f"rows for table {self.name} have {data[field.name].null_count} nulls in {field.name!r}",
                    "this column may not be null",
                )
            if not _fits(data[field.name].type, field.type):
                raise UserError(
                    f"column {field.name!r} of table {self.name} is {field.type}, "
                    f"and the rows have {data[field.name].type}",
                    "cast it first",
                )


def _row_filter(where: str | None, name: str) -> BooleanExpression:
    if where is None:
        return AlwaysTrue()
    try:
        return parse(where)
    except ParseBaseException as error:
        raise _bad_filter(where, name, f"it is not understood from {error.line[error.loc :]!r} on") from error


def _bad_filter(where: str | None, name: str, reason: object) -> UserError:
    return UserError(
        f"table {name} cannot be read where {where!r}: {reason}", "write it like 'distance > 100'"
    )


def _fits(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values are kept as they are: the same type, or another layout or width of it."""
    if plain(pa.schema([pa.field("x", given)])).field(0).type == wanted or pa.types.is_null(given):
        return True
    kinds = (pa.types.is_integer, pa.types.is_floating, _is_text, pa.types.is_timestamp)
    return any(kind(given) and kind(wanted) for kind in kinds)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))

"""Matching: which stored rows have one of some keys, and what a file holds without some of its rows.

Knows how files are passed over by the bounds of their keys, and how the others are read (each proven
against its digest before: a flipped bit must not get a new digest); it does not know what becomes of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import (
    And,
    BooleanExpression,
    GreaterThanOrEqual,
    In,
    LessThanOrEqual,
    Reference,
)
from pyiceberg.expressions.literals import literal
from pyiceberg.manifest import DataFile as NativeFile
from pyiceberg.table import FileScanTask
from pyiceberg.table import Table as NativeTable
from pyiceberg.types import NestedField, PrimitiveType

from rayplat.core.errors import UserError
from rayplat.data.lakehouse.files import FileWriter, digest_of
from rayplat.data.lakehouse.stored import ScanFile, StoredFile, Wanted

FILE, ROW = "_file_number", "_row_number"
"""Where a stored row is: the number of its file among those that are looked at, and its place in it."""
_FEW = 200  # pyiceberg compares a file's bounds with at most so many values of an `in`


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The files of one snapshot that may have rows of interest, and how they are read.

    Attributes:
        tasks: the files, with what of the filter is left for each.
        writer: the table's schema and file systems; it writes what is left of a file.
    """

    tasks: tuple[FileScanTask, ...]
    writer: FileWriter

    def read(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of a file, in its order, as the table's columns are now.

        Raises:
            IntegrityError: the file is not what was written.
        """
        file = self.tasks[number].file
        schema = self.writer.schema
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        wanted = Wanted(self.writer.name, tuple(schema.names), schema, None, self.writer.systems)
        verified = digest_of(file.file_path) is not None  # one of another writer promises nothing
        stored = StoredFile(
            ScanFile(file.file_path, file.record_count, file.file_size_in_bytes), wanted, verify=verified
        )
        try:
            return stored.read()
        finally:
            stored.close()

    def path(self, number: int) -> str:
        """A file's address."""
        return str(self.tasks[number].file.file_path)

    def without(self, number: int, rows: Sequence[int] | pl.Series) -> pa.Table:
        """What a file holds without some of its rows, by their places in it."""
        data = self.read(number)
        kept = np.ones(data.num_rows, bool)
        kept[np.asarray(rows, np.int64)] = False
        return data.filter(pa.array(kept))


def planned(native: NativeTable, writer: FileWriter, row_filter: BooleanExpression) -> StoredFiles:
    """The files of the current snapshot that may have rows for a filter.

    Raises:
        UserError: deletes of another engine would have to be applied.
    """
    if native.current_snapshot() is None:
        return StoredFiles((), writer)
    tasks = tuple(native.scan(row_filter=row_filter).plan_files())
    if any(task.delete_files for task in tasks):
        raise UserError(
            f"table {writer.name} has delete files of another engine, which are not applied here",
            "compact the table with that engine first",
        )
    return StoredFiles(tasks, writer)


def with_keys(native: NativeTable, writer: FileWriter, keys: pl.DataFrame) -> StoredFiles:
    """The files of the current snapshot that may have a row with one of the keys, by their bounds.

    Args:
        keys: the key's columns without nulls; at least one row.
    """
    row_filter: BooleanExpression | None = None
    for name in keys.columns:
        found = _range(name, keys[name])
        row_filter = found if row_filter is None else And(row_filter, found)
    if row_filter is None:
        raise UserError(f"table {writer.name} has no key", "declare its key")
    stored = planned(native, writer, row_filter)
    ids = {name: writer.iceberg.find_field(name) for name in keys.columns}
    ordered = {name: keys[name].unique().sort() for name in keys.columns}
    tasks = tuple(
        task
        for task in stored.tasks
        if all(_overlaps(task.file, ids[name], values) for name, values in ordered.items())
    )
    return StoredFiles(tasks, writer)


def _range(name: str, values: pl.Series) -> BooleanExpression:
    distinct = values.unique()
    term = Reference(name)
    if len(distinct) <= _FEW:
        return In(term=term, literals={literal(value) for value in distinct})
    low: Any = distinct.min()
    high: Any = distinct.max()
    return And(
        GreaterThanOrEqual(term=term, value=literal(low)), LessThanOrEqual(term=term, value=literal(high))
    )


def _overlaps(file: NativeFile, field: NestedField, values: pl.Series) -> bool:
    """Whether any of the (sorted) values lies within the file's bounds of a column."""
    low, high = (bounds.get(field.field_id) for bounds in (file.lower_bounds or {}, file.upper_bounds or {}))
    if low is None or high is None or not isinstance(field.field_type, PrimitiveType):
        return True
    ends = [from_bytes(field.field_type, low), from_bytes(field.field_type, high)]
    first, last = pl.Series(ends).cast(values.dtype)
    return bool(values.search_sorted(first, "left") < values.search_sorted(last, "right"))


def stored_rows(stored: StoredFiles, keys: pl.DataFrame, order_by: Sequence[str]) -> pl.DataFrame:
    """The stored rows that have one of the keys.

    Returns:
        The columns of the key and of `order_by`, `FILE` and `ROW`; a row each.
    """
    columns = list(dict.fromkeys([*keys.columns, *order_by]))
    found = []
    for number in range(len(stored.tasks)):
        data = pl.DataFrame(stored.read(number, columns)).with_row_index(ROW)
        matched = data.join(keys, on=keys.columns, how="semi", maintain_order="left")
        found.append(matched.with_columns(pl.lit(number, pl.Int64).alias(FILE), pl.col(ROW).cast(pl.Int64)))
    if found:
        return pl.concat(found)
    schema = stored.writer.schema
    empty = pl.DataFrame(pa.schema([schema.field(c) for c in columns]).remove_metadata().empty_table())
    return empty.with_columns(pl.lit(0, pl.Int64).alias(FILE), pl.lit(0, pl.Int64).alias(ROW))

"""Changes by filter, planned: rows for which a filter is true are deleted or replaced.

Knows copy-on-write as `changes` does, and that a row for which a filter is null is not meant by it. It
commits nothing (see `change`).
"""

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.parser import parse
from pyiceberg.expressions.visitors import bind
from pyiceberg.io.pyarrow import expression_to_pyarrow
from pyiceberg.table import Table as NativeTable
from pyparsing import ParseBaseException

from rayplat.core.errors import UserError
from rayplat.data.lakehouse.changes import Change, snapshot_of
from rayplat.data.lakehouse.files import DataFile, FileWriter
from rayplat.data.lakehouse.matching import ROW, planned
from rayplat.data.lakehouse.table import LakeTable


def delete_where(table: LakeTable, where: str) -> Change:
    """Delete the rows for which a filter is true; those for which it is null stay.

    Args:
        where: an Iceberg row filter such as `"distance > 100"`.

    Raises:
        UserError: the filter cannot be read.
    """
    return delete_where_from(table.native(), table.writer(), where)


def delete_where_from(native: NativeTable, writer: FileWriter, where: str) -> Change:
    """`delete_where` on a table as it was loaded."""
    row_filter = parsed(where, writer.name)
    stored = planned(native, writer, row_filter)
    condition = _condition(row_filter, writer)
    added: list[DataFile] = []
    removed: list[str] = []
    deleted = 0
    for number, task in enumerate(stored.tasks):
        if task.residual == AlwaysTrue():
            # The partition says it all: every row goes, unread.
            removed.append(stored.path(number))
            deleted += task.file.record_count
            continue
        data = stored.read(number)
        goes = _true_for(data, condition)
        if goes:
            removed.append(stored.path(number))
            added += writer.write(stored.without(number, goes))
            deleted += len(goes)
    return Change(added, removed, snapshot_of(native), deleted=deleted)


def overwrite_where(table: LakeTable, data: pa.Table, where: str) -> Change:
    """Replace the rows for which a filter is true by others, for which it is true, too.

    Raises:
        UserError: the filter cannot be read, or rows do not fit the table or the filter.
    """
    return overwrite_where_in(table.native(), table.writer(), data, where)


def overwrite_where_in(native: NativeTable, writer: FileWriter, data: pa.Table, where: str) -> Change:
    """`overwrite_where` on a table as it was loaded."""
    strangers = data.num_rows - len(_true_for(data, _condition(parsed(where, writer.name), writer)))
    if strangers:
        raise UserError(
            f"{strangers} of {data.num_rows} rows for table {writer.name} are not where {where!r}",
            "give only rows that the filter lets through, or widen the filter",
        )
    written = writer.write(data)
    found = delete_where_from(native, writer, where)
    return Change([*found.added, *written], found.removed, found.based_on, data.num_rows, 0, found.deleted)


def parsed(where: str, name: str) -> BooleanExpression:
    """A row filter; `name` is the table's.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return parse(where)
    except ParseBaseException as error:
        raise UserError(
            f"table {name} cannot be changed where {where!r}: it is not understood from "
            f"{error.line[error.loc :]!r} on",
            "write it like 'distance > 100'",
        ) from error


def _condition(row_filter: BooleanExpression, writer: FileWriter) -> pc.Expression:
    try:
        return expression_to_pyarrow(bind(writer.iceberg, row_filter, case_sensitive=True))
    except ValueError as error:
        raise UserError(
            f"table {writer.name} cannot be changed where {row_filter}: {error}",
            f"use: {', '.join(writer.schema.names)}",
        ) from error


def _true_for(data: pa.Table, condition: pc.Expression) -> list[int]:
    """The places of the rows for which a condition is true, and not null."""
    numbered = data.append_column(ROW, pa.array(range(data.num_rows), pa.int64()))
    places: list[int] = numbered.filter(condition)[ROW].to_pylist()
    return places

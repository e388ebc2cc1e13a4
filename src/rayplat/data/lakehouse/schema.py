"""Schemas: from declared columns to Arrow and Iceberg, and which changes of a table are allowed.

Knows the types and what may be added to a table; it does not know the catalog.
"""

from collections.abc import Iterable

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from rayplat.core.errors import UserError
from rayplat.core.project.source import Kafka
from rayplat.core.project.table import Column, Table
from rayplat.data.lakehouse.columns import OFFSET, PARTITION

TIMESTAMP = pa.timestamp("us", tz="UTC")

_ARROW = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": TIMESTAMP,
    "binary": pa.binary(),
}
_ICEBERG: dict[pa.DataType, IcebergType] = {
    pa.string(): StringType(),
    pa.large_string(): StringType(),
    pa.binary(): BinaryType(),
    pa.large_binary(): BinaryType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.bool_(): BooleanType(),
    pa.date32(): DateType(),
    TIMESTAMP: TimestamptzType(),
}


def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a declared table.

    A column's meaning (unit, description) becomes its documentation. A table fed by Kafka gets the
    system columns `_partition` (int32) and `_offset` (int64): where each row came from.

    Raises:
        UserError: a column has a type that is not one of `COLUMN_TYPES`.
    """
    fields = [_field(table.name, name, column) for name, column in table.columns.items()]
    if isinstance(table.source, Kafka):
        fields += [
            pa.field(PARTITION, pa.int32(), nullable=False, metadata={"doc": "partition of the source"}),
            pa.field(OFFSET, pa.int64(), nullable=False, metadata={"doc": "offset in the partition"}),
        ]
    return pa.schema(fields)


def _field(table: str, name: str, column: Column) -> pa.Field:
    if column.type not in _ARROW:
        raise UserError(
            f"column {name!r} of table {table} has the type {column.type!r}",
            f"use one of {', '.join(sorted(_ARROW))}",
        )
    unit = f" [{column.unit}]" if column.unit else ""
    doc = f"{column.description}{unit}".strip()
    return pa.field(name, _ARROW[column.type], column.nullable, metadata={"doc": doc} if doc else None)


def iceberg_schema(schema: pa.Schema, name: str) -> Schema:
    """The Iceberg schema of an Arrow schema, with fresh field ids; not nullable becomes required.

    Raises:
        UserError: a column has a type that the lakehouse does not keep; `name` is the table's.
    """
    return Schema(
        *(
            NestedField(
                field_id=number,
                name=field.name,
                field_type=iceberg_type(field, name),
                required=not field.nullable,
                doc=documentation(field),
            )
            for number, field in enumerate(schema, 1)
        )
    )


def iceberg_type(field: pa.Field, table: str) -> IcebergType:
    """The Iceberg type of one Arrow field.

    Raises:
        UserError: the type is not one that the lakehouse keeps.
    """
    found = _ICEBERG.get(field.type)
    if found is None:
        known = ", ".join(str(t) for t in _ICEBERG)
        raise UserError(
            f"column {field.name!r} of table {table} has the Arrow type {field.type}",
            f"cast it to one of: {known}",
        )
    return found


def documentation(field: pa.Field) -> str | None:
    """What a field means, if it says so."""
    doc = (field.metadata or {}).get(b"doc")
    return doc.decode() if doc else None


def plain(schema: pa.Schema) -> pa.Schema:
    """A schema without metadata and with 32-bit offsets: what readers of a table get."""
    return pa.schema([pa.field(f.name, _plain_type(f.type), f.nullable) for f in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    return kind


def added_columns(name: str, have: pa.Schema, want: pa.Schema) -> list[pa.Field]:
    """The columns that a table lacks.

    Args:
        name: the table's name, for the message.
        have: the table's schema as it is.
        want: the schema as it is declared now.

    Raises:
        UserError: the change is more than new nullable columns; the message lists every reason.
    """
    reasons = [*_changed(plain(have), plain(want))]
    new = [field for field in want if field.name not in have.names]
    reasons += [
        f"{f.name} is new and may not be null, but old rows have no value" for f in new if not f.nullable
    ]
    if reasons:
        raise UserError(
            f"table {name} cannot become what is declared: {'; '.join(reasons)}",
            "only new nullable columns are added to a table that exists; otherwise declare a new table",
        )
    return new


def _changed(have: pa.Schema, want: pa.Schema) -> Iterable[str]:
    for field in have:
        if field.name not in want.names:
            yield f"{field.name} is in the table and no longer declared"
            continue
        declared = want.field(field.name)
        if declared.type != field.type:
            yield f"{field.name} is {field.type} and declared {declared.type}"
        elif declared.nullable != field.nullable:
            yield f"{field.name} is {_word(field)} and declared {_word(declared)}"


def _word(field: pa.Field) -> str:
    return "nullable" if field.nullable else "not nullable"

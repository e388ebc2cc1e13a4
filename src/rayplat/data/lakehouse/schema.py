"""Schemas: from declared columns to Arrow and Iceberg.

Knows the types and the system columns; it does not know how a table that exists may change.
"""

from collections.abc import Collection
from typing import get_args

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
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from rayplat.core.errors import UserError
from rayplat.core.project.column_types import vector_length
from rayplat.core.project.source import Database, Kinesis, Source, Stream
from rayplat.core.project.table import Column, Table
from rayplat.data.lakehouse.columns import OFFSET, PARTITION

TIMESTAMP = pa.timestamp("us", tz="UTC")
FIELD_ID = b"PARQUET:field_id"
"""By which metadata of an Arrow field a file says which column it is."""

VECTOR = pa.list_(pa.field("element", pa.float32(), nullable=False))
"""A vector of any length; how many elements it has is a property of the table (see `vectors`)."""

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

    A column's meaning (unit, description) becomes its documentation. A table fed by a stream gets the
    system columns `_partition` and `_offset`, where each row came from: int32 and int64, or text if the
    source is wide.

    Raises:
        UserError: a column has a type that is none.
    """
    fields = [_field(table.name, name, column) for name, column in table.columns.items()]
    if isinstance(table.source, get_args(Stream)):
        wide = wide_source(table.source)
        partition, offset = (pa.string(), pa.string()) if wide else (pa.int32(), pa.int64())
        fields += [
            pa.field(PARTITION, partition, nullable=False, metadata={"doc": "partition of the source"}),
            pa.field(OFFSET, offset, nullable=False, metadata={"doc": "offset in the partition"}),
        ]
    return pa.schema(fields)


def wide_source(source: Source | None) -> bool:
    """Whether a source's partitions are texts and its offsets exceed int64 (they are decimal digits then)."""
    return isinstance(source, Kinesis | Database)


def _field(table: str, name: str, column: Column) -> pa.Field:
    kind = VECTOR if vector_length(column.type) else _ARROW.get(column.type)
    if kind is None:
        raise UserError(
            f"column {name!r} of table {table} has the type {column.type!r}",
            f"use one of {', '.join(sorted(_ARROW))}, vector(N)",
        )
    unit = f" [{column.unit}]" if column.unit else ""
    doc = f"{column.description}{unit}".strip()
    return pa.field(name, kind, column.nullable, metadata={"doc": doc} if doc else None)


def iceberg_schema(schema: pa.Schema, name: str, key: Collection[str] = ()) -> Schema:
    """The Iceberg schema of an Arrow schema, with fresh field ids; not nullable becomes required.

    Args:
        schema: the columns.
        name: the table's name, for messages.
        key: the columns that name a row; they become identifier fields if they may be, see `identifiers`.

    Raises:
        UserError: a column has a type that the lakehouse does not keep.
    """
    fields = [
        NestedField(
            field_id=number,
            name=field.name,
            field_type=iceberg_type(field, name, element=len(schema) + number),
            required=not field.nullable,
            doc=documentation(field),
        )
        for number, field in enumerate(schema, 1)
    ]
    ids = [field.field_id for field in fields if field.name in identifiers(schema, key)]
    return Schema(*fields, identifier_field_ids=ids)


def identifiers(schema: pa.Schema, key: Collection[str]) -> frozenset[str]:
    """The key as Iceberg's identifier fields: all of it, or nothing if a column may be null or is a float."""
    fields = [schema.field(name) for name in key]
    if any(field.nullable or pa.types.is_floating(field.type) for field in fields):
        return frozenset()
    return frozenset(key)


def iceberg_type(field: pa.Field, table: str, *, element: int = 0) -> IcebergType:
    """The Iceberg type of one Arrow field.

    Args:
        element: the field id of a vector's elements; where Iceberg gives a fresh one, any will do.

    Raises:
        UserError: the type is not one that the lakehouse keeps.
    """
    if is_vector(field.type):
        return ListType(element_id=element, element_type=FloatType(), element_required=True)
    found = _ICEBERG.get(field.type)
    if found is None:
        known = ", ".join(str(t) for t in (*_ICEBERG, VECTOR))
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


def with_field_ids(schema: Schema) -> pa.Schema:
    """A table's columns with field ids, by which files are read, as metadata; of vectors' elements, too."""
    fields = zip(schema.fields, plain(schema.as_arrow()), strict=True)
    return pa.schema(
        pa.field(
            field.name,
            _with_element(arrow.type, field.field_type),
            arrow.nullable,
            metadata={FIELD_ID: str(field.field_id).encode()},
        )
        for field, arrow in fields
    )


def _with_element(kind: pa.DataType, iceberg: IcebergType) -> pa.DataType:
    if not isinstance(iceberg, ListType) or not is_vector(kind):
        return kind
    return pa.list_(kind.value_field.with_metadata({FIELD_ID: str(iceberg.element_id).encode()}))


def is_vector(kind: pa.DataType) -> bool:
    """Whether Arrow's values are lists of float32, whatever their layout."""
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(listed and pa.types.is_float32(kind.value_type))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if is_vector(kind):
        return VECTOR
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    return kind

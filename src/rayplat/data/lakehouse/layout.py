"""Layouts: how Parquet is written for a small disk or for fast reads.

Knows the writer's options; it does not know partitions or names. `compact` is zstd, with the encoding
that suits each column; `read` keeps numbers as plain, uncompressed bytes, one page a column chunk, so
that they are read as views of the mapped file (see `plain_pages`). Every page has a checksum.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayplat.data.lakehouse.schema import is_vector

LAYOUT = "rayplat.layout"
"""The table property that names the layout; `compact` where it is not set."""

_ROW_GROUP_ROWS = {"compact": 262_144, "read": 1_048_576}
_SAMPLE = 4_096
_FEW = 8
_ONE_PAGE = 1 << 30


def row_group_rows(properties: Mapping[str, str]) -> int:
    """The most rows of a row group in a table's layout."""
    return _ROW_GROUP_ROWS[_named(properties)]


def writer_options(properties: Mapping[str, str], data: pa.Table) -> dict[str, Any]:
    """What `pyarrow.parquet.ParquetWriter` is to be given for these rows.

    Args:
        properties: the table's properties, which name the layout.
        data: the rows of the file; a sample of them tells which columns have few distinct values.
    """
    own = _read(data.schema) if _named(properties) == "read" else _compact(data)
    return {**own, "write_page_checksum": True, "store_schema": False}


def _named(properties: Mapping[str, str]) -> str:
    return properties.get(LAYOUT, "compact")


def _compact(data: pa.Table) -> dict[str, Any]:
    start = max(0, (data.num_rows - _SAMPLE) // 2)
    sample = data.slice(start, _SAMPLE)
    few = [
        field.name
        for field in data.schema
        if not pa.types.is_boolean(field.type)
        and not is_vector(field.type)
        and pc.count_distinct(sample[field.name]).as_py() * _FEW <= sample.num_rows
    ]
    encodings = {
        _leaf(field): _encoding(field.type)
        for field in data.schema
        if field.name not in few and (_is_number(field.type) or is_vector(field.type))
    }
    return {"compression": "zstd", "use_dictionary": few or False, "column_encoding": encodings or None}


def _encoding(kind: pa.DataType) -> str:
    split = pa.types.is_floating(kind) or is_vector(kind)
    return "BYTE_STREAM_SPLIT" if split else "DELTA_BINARY_PACKED"


def _leaf(field: pa.Field) -> str:
    """The path in a Parquet file of a column's values: its name, or that of the elements of its vectors."""
    return f"{field.name}.list.element" if is_vector(field.type) else str(field.name)


def _read(schema: pa.Schema) -> dict[str, Any]:
    numbers = {_leaf(field) for field in schema if _is_number(field.type) or is_vector(field.type)}
    texts = [
        field.name for field in schema if _leaf(field) not in numbers and not pa.types.is_boolean(field.type)
    ]
    return {
        "compression": {
            name: "none" if name in numbers else "lz4" for name in (_leaf(field) for field in schema)
        },
        "use_dictionary": texts or False,
        "data_page_size": _ONE_PAGE,
        "max_rows_per_page": _ONE_PAGE,
        "data_page_version": "1.0",
    }


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date(kind)
    )

"""Partitioning and order: from declared terms to Iceberg's, and rows parted and sorted by them.

Knows columns and their transforms; it does not know files. Nulls are sorted last, whichever way the
order goes, and missing values make a partition of their own.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import IdentityTransform, TimeTransform, Transform, parse_transform
from pyiceberg.types import IntegerType

from rayplat.core.errors import UserError
from rayplat.core.project.table import Partitioning, Table, parse_partitioning
from rayplat.data.lakehouse.transforms import transformed

_LONGEST_VALUE = 100  # a file system takes names of 255 bytes
_WAYS = {SortDirection.ASC: "ascending", SortDirection.DESC: "descending"}


def declared_partitioning(table: Table) -> list[Partitioning]:
    """The terms of `Table.partition_by`.

    Raises:
        UserError: a term that is none.
    """
    found = []
    for text in table.partition_by:
        term = parse_partitioning(text)
        if term is None:
            raise UserError(
                f"table {table.name} is partitioned by {text!r}",
                "write a column, or for example day(event_time), bucket(16, id), truncate(4, code)",
            )
        found.append(term)
    return found


def transform_of(term: Partitioning) -> Transform[Any, Any]:
    """The Iceberg transform of a term."""
    made: Transform[Any, Any] = parse_transform(
        f"{term.transform}[{term.width}]" if term.width else term.transform
    )
    return made


def field_name(term: Partitioning) -> str:
    """The partition's name, as other engines choose it: `origin`, `at_day`, `id_bucket_16`."""
    if term.transform == "identity":
        return term.column
    short = {"truncate": "trunc"}.get(term.transform, term.transform)
    return f"{term.column}_{short}_{term.width}" if term.width else f"{term.column}_{short}"


def partition_spec(table: Table, schema: Schema) -> PartitionSpec:
    """The partition spec of a declared table over the Iceberg schema of its columns.

    Raises:
        UserError: a term that is none, or of a column whose type its transform does not take.
    """
    return spec_of(declared_partitioning(table), schema, table.name)


def spec_of(terms: Sequence[Partitioning], schema: Schema, name: str) -> PartitionSpec:
    """The partition spec of terms over a schema; `name` is the table's.

    Raises:
        UserError: a term of a column whose type its transform does not take.
    """
    fields = []
    for number, term in enumerate(terms):
        column, transform = schema.find_field(term.column), transform_of(term)
        if not transform.can_transform(column.field_type):
            raise UserError(
                f"table {name}: {term.transform} does not take {term.column!r}, a {column.field_type}",
                "use another transform",
            )
        fields.append(
            PartitionField(column.field_id, PARTITION_FIELD_ID_START + number, transform, field_name(term))
        )
    return PartitionSpec(*fields)


def declared_order(table: Table) -> list[tuple[str, bool]]:
    """`Table.sort_by` as (column, whether the greatest comes first)."""
    return [(text.removeprefix("-"), text.startswith("-")) for text in table.sort_by]


def sort_order(table: Table, schema: Schema) -> SortOrder:
    """The sort order of a declared table over the Iceberg schema of its columns; nulls last."""
    return order_of(declared_order(table), schema)


def order_of(terms: Sequence[tuple[str, bool]], schema: Schema) -> SortOrder:
    """The sort order of (column, greatest first) over a schema; nulls last."""
    fields = [
        SortField(
            source_id=schema.find_field(column).field_id,
            transform=IdentityTransform(),
            direction=SortDirection.DESC if greatest_first else SortDirection.ASC,
            null_order=NullOrder.NULLS_LAST,
        )
        for column, greatest_first in terms
    ]
    return SortOrder(*fields, order_id=1) if fields else SortOrder(order_id=0)


def split(data: pa.Table, spec: PartitionSpec, schema: Schema) -> list[tuple[dict[str, Any], pa.Table]]:
    """Part rows by their partition; within a part they keep their order.

    Args:
        data: rows with the columns of `schema`.
        spec: the partition spec; its source columns are in `schema`.
        schema: the table's Iceberg schema.

    Returns:
        (values by partition field, rows), one for each partition that has rows. Values are in the form
        in which manifests keep them: dates and times are integers.
    """
    if data.num_rows == 0:
        return []
    codes, distinct = _codes(data, spec, schema)
    present, counts = np.unique(codes, return_counts=True)
    if len(present) == 1:
        return [(_values(int(present[0]), distinct), data)]
    parted = data.take(pa.array(np.argsort(codes, kind="stable")))
    ends = np.cumsum(counts)
    return [
        (_values(int(code), distinct), parted.slice(int(end - count), int(count)))
        for code, count, end in zip(present, counts, ends, strict=True)
    ]


def _codes(
    data: pa.Table, spec: PartitionSpec, schema: Schema
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[tuple[str, list[Any]]]]:
    """A number for each row that names its partition, and each field's distinct values."""
    codes = np.zeros(data.num_rows, np.int64)
    distinct: list[tuple[str, list[Any]]] = []
    for field in spec.fields:
        column = data[schema.find_column_name(field.source_id)]
        encoded = transformed(field.transform, column).dictionary_encode(null_encoding="encode")
        values = encoded.dictionary.to_pylist()
        codes = codes * len(values) + encoded.indices.to_numpy(zero_copy_only=False)
        distinct.append((field.name, values))
    return codes, distinct


def _values(code: int, distinct: Sequence[tuple[str, list[Any]]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in reversed(distinct):
        code, place = divmod(code, len(values))
        found[name] = values[place]
    return {name: found[name] for name, _ in distinct}


def sort(data: pa.Table, order: SortOrder, schema: Schema) -> pa.Table:
    """Sort rows; equal rows keep their order, nulls come last."""
    if not order.fields or data.num_rows < 2:
        return data
    keys = [(schema.find_column_name(f.source_id), _WAYS[f.direction], "at_end") for f in order.fields]
    return data.take(pc.sort_indices(data, sort_keys=keys))


def partition_path(values: Mapping[str, Any], spec: PartitionSpec) -> str:
    """The folder of a partition below the table's data: `at_day=2013-01-01/origin=JFK/`; empty for none.

    It is for people: the values that count are in the manifest. Whatever is not a letter, digit, `.`,
    `_` or `-` is written as its hexadecimal code behind `~`, not `%`: some readers of addresses decode
    percent signs and some do not, and they would look for different files.
    """
    parts = []
    for field in spec.fields:
        value = values[field.name]
        text = _human(field.transform, value)
        parts.append(f"{_escaped(field.name)}={_escaped(text)}/")
    return "".join(parts)


def _human(transform: Transform[Any, Any], value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(transform, TimeTransform):
        return str(transform.to_human_string(IntegerType(), value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escaped(text: str) -> str:
    safe = quote(text.replace("~", "~7E"), safe="~").replace("%", "~")
    if len(safe) <= _LONGEST_VALUE:
        return safe
    return f"{safe[: _LONGEST_VALUE - 17]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"

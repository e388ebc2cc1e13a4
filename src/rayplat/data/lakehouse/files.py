"""Data files: Parquet written under a table's location by whoever has the rows.

Knows how a file is laid out, named and described; it does not know the catalog. A file that no
snapshot names is invisible, so a writer may die at any moment. The SHA-256 of the bytes is part of the
name: every manifest that names the file holds its digest, whoever wrote the manifest.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortOrder

from rayplat.core.errors import UserError
from rayplat.data.lakehouse.layout import row_group_rows, writer_options
from rayplat.data.lakehouse.objects import FileSystems, by_address, put
from rayplat.data.lakehouse.partitioning import partition_path, sort, split
from rayplat.data.lakehouse.schema import plain
from rayplat.data.lakehouse.vectors import check_vectors

_DIGEST = re.compile(r"-([0-9a-f]{64})\.(?:parquet|avro)$")
# About 128 MB as compressed Parquet: rows in Arrow take three to four times as much.
_MOST_ARROW_BYTES = 448 * 2**20


@dataclass(frozen=True, slots=True)
class DataFile:
    """A written data file that is to be named by a snapshot; pickles.

    Attributes:
        path: its address; the digest is in its name.
        rows: how many rows it has; `bytes`: how long it is.
        sha256: the digest of its bytes, hex.
        spec_id: the partition spec by which it was split.
        described: the fields of an Iceberg `data_file` record.
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    spec_id: int
    described: Mapping[str, Any] = field(repr=False)


def digest_of(path: str) -> str | None:
    """The SHA-256 (hex) that a file's name holds; None for a file of another writer."""
    match = _DIGEST.search(path)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class FileWriter:
    """Writes data files of one table, as its schema and layout were when it was made; pickles.

    Attributes:
        name: the table's name, for messages; `location`: where its files are.
        schema: the Arrow schema with Iceberg field ids.
        iceberg: the Iceberg schema; `spec` and `order`: how rows are parted and sorted.
        properties: the table's properties.
        systems: gives the file system of an address.
    """

    name: str
    location: str
    schema: pa.Schema
    iceberg: Schema
    spec: PartitionSpec
    order: SortOrder
    properties: Mapping[str, str]
    systems: FileSystems = by_address

    def write(self, data: pa.Table) -> list[DataFile]:
        """Write rows: a file for every partition, sorted; several where it would exceed about 128 MB.

        Args:
            data: rows with exactly the table's columns, in any order.

        Raises:
            UserError: the rows do not fit the table's columns.
        """
        if data.num_rows == 0:
            return []
        self._check(data)
        cast = pa.Table.from_arrays([data[f.name].cast(f.type) for f in self.schema], schema=self.schema)
        if self.spec.is_unpartitioned():
            return self._write_parts({}, sort(cast, self.order, self.iceberg))
        return [
            file
            for values, part in split(cast, self.spec, self.iceberg)
            for file in self._write_parts(values, sort(part, self.order, self.iceberg))
        ]

    def _write_parts(self, values: Mapping[str, Any], data: pa.Table) -> list[DataFile]:
        pieces = -(-data.nbytes // _MOST_ARROW_BYTES) or 1
        rows = -(-data.num_rows // pieces)
        return [self._write_one(values, data.slice(at, rows)) for at in range(0, data.num_rows, rows)]

    def _write_one(self, values: Mapping[str, Any], data: pa.Table) -> DataFile:
        sink, told = pa.BufferOutputStream(), list[pq.FileMetaData]()
        options = writer_options(self.properties, data)
        with pq.ParquetWriter(sink, self.schema, metadata_collector=told, **options) as writer:
            writer.write_table(data, row_group_size=row_group_rows(self.properties))
        content = sink.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        folder = partition_path(values, self.spec)
        path = f"{self.location.rstrip('/')}/data/{folder}{uuid.uuid4().hex}-{digest}.parquet"
        put(self.systems, path, content)
        described = self._describe(path, content.size, values, told[0])
        return DataFile(path, data.num_rows, content.size, digest, self.spec.spec_id, described)

    def _describe(
        self, path: str, size: int, values: Mapping[str, Any], footer: pq.FileMetaData
    ) -> dict[str, Any]:
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=footer,
            stats_columns=compute_statistics_plan(self.iceberg, dict(self.properties)),
            parquet_column_mapping=parquet_path_to_id_mapping(self.iceberg),
        ).to_serialized_dict()
        return {
            "content": 0,
            "file_path": path,
            "file_format": "PARQUET",
            "partition": dict(values),
            "file_size_in_bytes": size,
            "sort_order_id": self.order.order_id or None,
            **statistics,
        }

    def _check(self, data: pa.Table) -> None:
        missing = [n for n in self.schema.names if n not in data.column_names]
        unknown = [n for n in data.column_names if n not in self.schema.names]
        if missing or unknown:
            raise UserError(
                f"rows for table {self.name} lack {missing or 'nothing'}, "
                f"and have unknown {unknown or 'nothing'}",
                f"give exactly: {', '.join(self.schema.names)}",
            )
        for column in self.schema:
            given = data[column.name]
            if not column.nullable and given.null_count:
                raise UserError(
                    f"rows for table {self.name} have {given.null_count} nulls in {column.name!r}",
                    "this column may not be null",
                )
            if not _fits(given.type, column.type):
                raise UserError(
                    f"column {column.name!r} of table {self.name} is {column.type}, "
                    f"and the rows have {given.type}",
                    "cast it first",
                )
        check_vectors(data, self.properties, self.name)


def _fits(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values are kept as they are: the same type, or another layout or width of it."""
    if plain(pa.schema([pa.field("x", given)])).field(0).type == wanted or pa.types.is_null(given):
        return True
    kinds = (pa.types.is_integer, pa.types.is_floating, _is_text, pa.types.is_timestamp)
    return any(kind(given) and kind(wanted) for kind in kinds)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))

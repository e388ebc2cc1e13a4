"""Stored files: one Parquet file read as the table's columns are now.

Knows how columns are found by field id, renamed, widened or added, which row groups a filter can skip,
and how a file is proved before its rows are used; it does not know which files a snapshot has.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from rayplat.core.errors import IntegrityError, UnavailableError
from rayplat.data.lakehouse.files import digest_of
from rayplat.data.lakehouse.hashing import sha256_of
from rayplat.data.lakehouse.objects import FileSystems
from rayplat.data.lakehouse.packed_pages import PackedFile
from rayplat.data.lakehouse.plain_pages import PlainPages
from rayplat.data.lakehouse.schema import FIELD_ID, plain

_PACKED = (pa.int64(), pa.float64(), pa.timestamp("us", "UTC"))


@dataclass(frozen=True, slots=True)
class ScanFile:
    """A data file that a scan reads: its address, its rows and its size in bytes."""

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read of each file; pickles.

    Attributes:
        table: the table's name, for messages.
        columns: what comes out, in this order.
        schema: `columns` and those that only the filter needs, each with its field id as metadata.
        where: the filter in the table's names; None: every row.
        systems: gives the file system of an address.
    """

    table: str
    columns: tuple[str, ...]
    schema: pa.Schema
    where: pc.Expression | None
    systems: FileSystems

    def result_schema(self) -> pa.Schema:
        """The columns that come out, without metadata."""
        return plain(pa.schema([self.schema.field(name) for name in self.columns]))


class StoredFile:
    """One data file, opened.

    Args:
        file: which one.
        wanted: what is to be read of it.
        verify: whether its bytes are compared with the digest in its name before anything is read.
        footer: its metadata, where it was read before.

    Raises:
        IntegrityError: the bytes are not what was written, or the file is no Parquet file or not there.
        UnavailableError: the storage does not answer.
    """

    def __init__(
        self,
        file: ScanFile,
        wanted: Wanted,
        *,
        verify: bool = False,
        footer: pq.FileMetaData | None = None,
    ) -> None:
        self._file, self._wanted, self._footer = file, wanted, footer
        system, inside = wanted.systems(file.path)
        self._local = inside if isinstance(system, pafs.LocalFileSystem) else None
        try:
            self._parquet = self._open(system, inside, verify)
        except FileNotFoundError as error:
            raise self._broken("is not there") from error
        except pa.ArrowInvalid as error:
            raise self._broken(f"is no Parquet file: {error}") from error
        except OSError as error:
            raise UnavailableError(
                f"{file.path} of table {wanted.table} cannot be read: {error}",
                "see whether the storage is there",
            ) from error
        self._names = self._names_by_column()

    def _open(self, system: pafs.FileSystem, inside: str, verify: bool) -> pq.ParquetFile:
        if self._local is not None:
            if verify:
                self._check(sha256_of(system, inside))
            return pq.ParquetFile(inside, memory_map=True, metadata=self._footer)
        if verify:
            # Read once: what was hashed is what is decoded.
            with system.open_input_file(inside) as source:
                content = source.read_buffer()
            self._check(hashlib.sha256(content).hexdigest())
            return pq.ParquetFile(pa.BufferReader(content))
        return pq.ParquetFile(system.open_input_file(inside), pre_buffer=True, metadata=self._footer)

    def _check(self, found: str) -> None:
        promised = digest_of(self._file.path)
        if promised is None:
            raise self._broken("has no digest in its name: another writer made it, and it cannot be verified")
        if found != promised:
            raise self._broken(f"has the SHA-256 {found}, and was written with {promised}")

    def _broken(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"data file {self._file.path} of table {self._wanted.table} {what}",
            "see `rayplat data verify`; restore the file, or read an older snapshot",
        )

    def _names_by_column(self) -> dict[str, str | None]:
        """The file's name of each wanted column; None where the file is older than the column."""
        stored = self._parquet.schema_arrow
        by_id = {f.metadata[FIELD_ID]: f.name for f in stored if f.metadata and FIELD_ID in f.metadata}
        if not by_id:
            # Files without ids were added by name, by another engine.
            return {f.name: f.name if f.name in stored.names else None for f in self._wanted.schema}
        return {f.name: by_id.get(f.metadata[FIELD_ID]) for f in self._wanted.schema}

    def row_groups(self) -> list[int]:
        """The numbers of the row groups that may have rows for the filter."""
        count = self._parquet.num_row_groups
        if self._wanted.where is None or count == 0 or not self._same_as_table:
            return list(range(count))
        if self._local is None:
            return list(range(count)) if count == 1 else self._pruned(*self._wanted.systems(self._file.path))
        return self._pruned(pafs.LocalFileSystem(), self._local)

    def _pruned(self, system: pafs.FileSystem, inside: str) -> list[int]:
        fragment = pads.ParquetFileFormat().make_fragment(inside, system)
        kept = fragment.subset(filter=self._wanted.where, schema=plain(self._parquet.schema_arrow))
        return [group.id for group in kept.row_groups]

    @cached_property
    def _same_as_table(self) -> bool:
        """Whether the wanted columns are in the file under the same names with the same types."""
        stored = plain(self._parquet.schema_arrow)
        return all(
            self._names[f.name] == f.name and stored.field(f.name).type == f.type for f in self._wanted.schema
        )

    def read(self, row_groups: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Decode rows, in the order of the file.

        Args:
            row_groups: their numbers; all that `row_groups` names if None.
            columns: some of the wanted ones; all if None.

        Returns:
            The wanted columns of the rows that the filter lets through.

        Raises:
            IntegrityError: the pages cannot be decoded.
        """
        groups = list(self.row_groups() if row_groups is None else row_groups)
        chosen = list(self._wanted.columns if columns is None else columns)
        schema = self._wanted.schema
        if self._wanted.where is None:
            schema = pa.schema([schema.field(name) for name in chosen])
        names = [name for field in schema if (name := self._names[field.name]) is not None]
        try:
            data = self._parquet.read_row_groups(groups, columns=names, use_pandas_metadata=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._broken(f"cannot be decoded: {error}") from error
        rows = sum(self._parquet.metadata.row_group(group).num_rows for group in groups)
        table = self._conformed(data, plain(schema), rows)
        if self._wanted.where is not None:
            table = table.filter(self._wanted.where)
        return table.select(chosen)

    def batches(self, row_group: int, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Decode a row group of an unfiltered file in batches, in one thread and little memory.

        Args:
            row_group: its number; `columns`: some of the wanted ones.
            rows: how many a batch has at most.

        Raises:
            IntegrityError: the pages cannot be decoded.
        """
        if not self._same_as_table:
            yield from self.read([row_group], columns).to_batches(max_chunksize=rows)
            return
        try:
            decoded = self._parquet.iter_batches(
                rows, row_groups=[row_group], columns=list(columns), use_threads=False
            )
            yield from decoded
        except (pa.ArrowInvalid, OSError) as error:
            raise self._broken(f"cannot be decoded: {error}") from error

    @property
    def footer(self) -> pq.FileMetaData:
        """Its metadata."""
        return self._parquet.metadata

    def rows(self, row_group: int) -> int:
        """How many rows a row group has."""
        return int(self._parquet.metadata.row_group(row_group).num_rows)

    def bounds(self, row_group: int, column: str) -> tuple[int, int] | None:
        """Least and greatest value of a column of signed integers, dates or times, as integers.

        None where the footer does not say, and for other columns.
        """
        kind = self._wanted.schema.field(column).type
        ordered = pa.types.is_signed_integer(kind) or pa.types.is_date32(kind) or pa.types.is_timestamp(kind)
        if not ordered or not self._same_as_table:
            return None
        told = self._parquet.metadata.row_group(row_group).column(self.column_number(column)).statistics
        if told is None or not told.has_min_max:
            return None
        return int(told.min_raw), int(told.max_raw)

    def _conformed(self, data: pa.Table, schema: pa.Schema, rows: int) -> pa.Table:
        arrays = []
        for column in schema:
            name = self._names[column.name]
            if name is not None:
                arrays.append(data[name].cast(column.type))
            elif column.nullable:
                arrays.append(pa.chunked_array([pa.nulls(rows, column.type)]))
            else:
                raise self._broken(f"lacks the column {column.name!r}, which may not be null")
        return pa.Table.from_arrays(arrays, schema=schema)

    def pages(self) -> PlainPages | None:
        """The mapped file, where its values could be used without decoding; None where they cannot."""
        if self._local is None or self._wanted.where is not None or not self._same_as_table:
            return None
        return PlainPages(self._local, self._parquet.metadata)

    def packed(self) -> PackedFile | None:
        """The file as packed columns, of those types for which it can be; None where it must be decoded."""
        if self._local is None or self._wanted.where is not None or not self._same_as_table:
            return None
        kinds = {f.name: f.type for f in self._wanted.schema if f.type in _PACKED}
        columns = {name: (self.column_number(name), kind) for name, kind in kinds.items()}
        return PackedFile(self._local, self._parquet.metadata, columns)

    def column_number(self, name: str) -> int:
        """The number of a wanted column in the file."""
        return int(self._parquet.schema_arrow.get_field_index(self._names[name]))

    def close(self) -> None:
        """Give the file back; what was read stays."""
        self._parquet.close()

"""Parts of a table: what one task reads and sketches.

Knows data files and how their columns are found by field id, whatever they were called when the file was
written; it does not know how parts are handed out to tasks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from rayplat.data.lakehouse.objects import FileSystems
from rayplat.data.lakehouse.plain_pages import PlainPages
from rayplat.data.profile.sketch import ColumnSketch

Sketches = dict[str, ColumnSketch]
"""Sketch by column."""

_FIELD_ID = b"PARQUET:field_id"
_BATCH_ROWS = 262_144
"""Two MiB of numbers, a row group as the platform writes it."""
_PLAIN = frozenset(
    (pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.date32(), pa.timestamp("us", "UTC"))
)
"""Types whose values lie in a file as they lie in an array."""
_DICTIONARY_BYTES = 2
"""Where texts take less room than so many bytes each, they are few and stay a dictionary."""


class Part(Protocol):
    """Rows that are sketched by one task; pickles."""

    def columns(self) -> Iterator[tuple[str, Iterator[pa.Array]]]:
        """Each column of the table as it is called now, with its values in batches; one after another."""
        ...


@dataclass(frozen=True, slots=True)
class FilePart:
    """One data file, or some row groups of it.

    Attributes:
        path: its address; `schema`: the wanted columns with their field ids; `systems`: where it is.
        groups: which row groups; all of them if None.
    """

    path: str
    schema: pa.Schema
    systems: FileSystems
    groups: tuple[int, ...] | None = None

    def split(self, most: int) -> list["FilePart"]:
        """The same rows in at most so many parts of whole row groups."""
        with self._open() as file:
            found = file.num_row_groups
        size = -(-found // most) or 1
        return [replace(self, groups=tuple(range(at, min(at + size, found)))) for at in range(0, found, size)]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows; a column that the file lacks is null, one that was widened is cast."""
        with self._open() as file:
            there = self._names(file.schema_arrow)
            wanted = [name for name in there.values() if name is not None]
            for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
                columns = [
                    pa.nulls(len(batch), f.type) if name is None else batch[name].cast(f.type)
                    for f, name in ((f, there[f.name]) for f in self.schema)
                ]
                yield pa.RecordBatch.from_arrays(columns, names=self.schema.names)

    def columns(self) -> Iterator[tuple[str, Iterator[pa.Array]]]:
        """The columns; one that the file lacks is null, one that was widened is cast.

        A column at a time: its buffers are used again for the next batch, and never leave the cache. One that
        lies in the file as plain values is not read at all: the batches are views of the mapped file.
        """
        with self._open() as plain:
            groups = list(range(plain.num_row_groups)) if self.groups is None else list(self.groups)
            there = self._names(plain.schema_arrow)
            rows = sum(plain.metadata.row_group(group).num_rows for group in groups)
            few = _few_texts(plain, groups)
            pages = self._pages(plain.metadata)
            with self._open(metadata=plain.metadata, read_dictionary=few) as file:
                for field in self.schema:
                    name = there[field.name]
                    if name is None:
                        yield field.name, iter([pa.nulls(rows, field.type)])
                    elif pages and (
                        views := _views(pages, file, groups, file.schema_arrow.field(name), field)
                    ):
                        yield field.name, _sliced(views)
                    else:
                        yield field.name, _declared(file, groups, name, field.type)

    def _open(self, **options: Any) -> pq.ParquetFile:
        system, inside = self.systems(self.path)
        if isinstance(system, pafs.LocalFileSystem):
            return pq.ParquetFile(inside, memory_map=True, **options)
        return pq.ParquetFile(inside, filesystem=system, **options)

    def _pages(self, footer: pq.FileMetaData) -> PlainPages | None:
        system, inside = self.systems(self.path)
        return PlainPages(inside, footer) if isinstance(system, pafs.LocalFileSystem) else None

    def _names(self, stored: pa.Schema) -> dict[str, str | None]:
        """The name in the file of each wanted column."""
        named = {f.metadata.get(_FIELD_ID): f.name for f in stored if f.metadata}
        return {f.name: named.get(f.metadata[_FIELD_ID]) for f in self.schema}


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows that are in memory."""

    data: pa.Table

    def columns(self) -> Iterator[tuple[str, Iterator[pa.Array]]]:
        """The columns."""
        for name in self.data.column_names:
            yield name, _sliced(self.data[name].chunks)


def sketch_part(part: Part, seed: int) -> Sketches:
    """Read a part once and sketch each of its columns.

    Args:
        seed: decides which rows are drawn for the quantiles and the frequent values.
    """
    sketches: Sketches = {}
    scratch = np.empty(_BATCH_ROWS + 1, np.uint64)
    for name, batches in part.columns():
        for values in batches:
            if name not in sketches:
                sketches[name] = ColumnSketch(values.type, seed, scratch)
            sketches[name].update(values)
        if name in sketches:
            sketches[name].finish()
    return sketches


def _declared(file: pq.ParquetFile, groups: list[int], name: str, kind: pa.DataType) -> Iterator[pa.Array]:
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=[name], use_threads=False):
        values = batch[0]
        same = values.type == kind or pa.types.is_dictionary(values.type)
        yield values if same else values.cast(kind)


def _sliced(arrays: Sequence[pa.Array]) -> Iterator[pa.Array]:
    return (a.slice(at, _BATCH_ROWS) for a in arrays for at in range(0, len(a), _BATCH_ROWS))


def _views(
    pages: PlainPages, file: pq.ParquetFile, groups: Sequence[int], stored: pa.Field, wanted: pa.Field
) -> list[pa.Array]:
    """The values of a column where they lie in the file; none unless all of them do."""
    kind = wanted.type
    if stored.type != kind or kind not in _PLAIN:
        return []
    # Columns are numbered by leaf: a struct that comes before has several.
    paths = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
    if paths.count(stored.name) != 1:
        return []
    found = []
    for group in groups:
        view = pages.column(group, paths.index(stored.name))
        if view is None:
            return []
        found.append(pa.Array.from_buffers(kind, len(view), [None, pa.py_buffer(view)]))
    return found


def _few_texts(file: pq.ParquetFile, groups: Sequence[int]) -> list[str]:
    """The texts that are stored as a dictionary of few."""
    if not groups:
        return []
    group = file.metadata.row_group(groups[0])
    found = []
    for number in range(group.num_columns):
        column = group.column(number)
        few = column.total_uncompressed_size < _DICTIONARY_BYTES * column.num_values
        if column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page and few:
            found.append(column.path_in_schema)
    return found


def merged(parts: Sequence[Sketches]) -> Sketches:
    """The sketches of all parts together; the first one's are changed."""
    total: Sketches = {}
    for sketches in parts:
        for name, sketch in sketches.items():
            if name in total:
                total[name].merge(sketch)
            else:
                total[name] = sketch
    return total

"""Parts of a table: what one task reads and sketches.

Knows data files and how their columns are found by field id, whatever they were called when the file was
written; it does not know how parts are handed out to tasks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rayplat.data.lakehouse.objects import FileSystems
from rayplat.data.profile.sketch import ColumnSketch, sample_rows

Sketches = dict[str, ColumnSketch]
"""Sketch by column."""

_FIELD_ID = b"PARQUET:field_id"
_BATCH_ROWS = 262_144


class Part(Protocol):
    """Rows that are sketched by one task; pickles."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, with the columns of the table as they are called now."""
        ...


@dataclass(frozen=True, slots=True)
class FilePart:
    """One data file.

    Attributes:
        path: its address; `schema`: the wanted columns with their field ids; `systems`: where it is.
    """

    path: str
    schema: pa.Schema
    systems: FileSystems

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The file's rows; a column that it lacks is null, one that was widened is cast."""
        system, inside = self.systems(self.path)
        with system.open_input_file(inside) as source:
            file = pq.ParquetFile(source)
            named = {f.metadata.get(_FIELD_ID): f.name for f in file.schema_arrow if f.metadata}
            there = {f.name: named.get(f.metadata[_FIELD_ID]) for f in self.schema}
            wanted = [name for name in there.values() if name is not None]
            for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
                yield self._as_declared(batch, there)

    def _as_declared(self, batch: pa.RecordBatch, there: dict[str, str | None]) -> pa.RecordBatch:
        columns = [
            pa.nulls(batch.num_rows, field.type) if name is None else batch[name].cast(field.type)
            for field, name in ((f, there[f.name]) for f in self.schema)
        ]
        return pa.RecordBatch.from_arrays(columns, names=self.schema.names)


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows that are in memory."""

    data: pa.Table

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows."""
        return iter(self.data.to_batches(_BATCH_ROWS))


def sketch_part(part: Part, seed: int) -> Sketches:
    """Read a part once and sketch each of its columns.

    Args:
        seed: decides which rows are drawn for the quantiles. (The KLL sketch throws dice of its own, so
            quantiles of many values differ from run to run, within their bounds.)
    """
    rng = np.random.default_rng(seed)
    sketches: Sketches = {}
    for batch in part.batches():
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        sample = sample_rows(frame.height, rng)
        for column in frame.iter_columns():
            sketches.setdefault(column.name, ColumnSketch(column.dtype)).update(column, sample)
    return sketches


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

"""Parts: a source as pieces that can be read one by one, in any order, several times.

Knows what the join needs of a piece and gives in-memory rows as pieces; it does not know files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl
import pyarrow as pa

from rayplat.features.instants import Int64s

BATCH = 65_536
"""Rows of a batch: few enough that what was decoded is still in the cache when it is used."""

_PART = 1 << 20


class Part(Protocol):
    """Consecutive rows of a source, such as a row group of a file. Readable from any thread."""

    @property
    def rows(self) -> int:
        """How many rows there are."""

    @property
    def place(self) -> str:
        """Where the rows lie: parts of one place have the same rows for ever; empty: that is not known."""

    def bounds(self, column: str) -> tuple[int, int] | None:
        """Least and greatest value as integers (times: microseconds); None where they are not known."""

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows in their order, as batches of these columns."""

    def packed(self, column: str) -> "Packed | None":
        """A column of int64, float64 or times in microseconds and UTC, without nulls, in pages that are
        unpacked sooner than batches are read; None where it has none."""


class Packed(Protocol):
    """A column of 64-bit values without nulls, in pages; for one thread at a time."""

    @property
    def kind(self) -> pa.DataType:
        """The type of the values."""

    @property
    def rows(self) -> list[int]:
        """How many rows each page has."""

    def into(self, page: int, out: Int64s) -> None:
        """Unpack the values of a page, or the bits of floats, into as many places."""


def unpack(column: Packed, out: Int64s) -> None:
    """Unpack a column, one place a row."""
    done = 0
    for page, rows in enumerate(column.rows):
        column.into(page, out[done : done + rows])
        done += rows


@dataclass(frozen=True, slots=True)
class FramePart:
    """Rows in memory."""

    frame: pl.DataFrame
    place: str = field(default="", kw_only=True)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.frame.height

    def bounds(self, column: str) -> tuple[int, int] | None:
        """Least and greatest value of a column of integers or times."""
        series = self.frame.get_column(column)
        if series.dtype.is_temporal():
            if series.dtype not in (pl.Date, pl.Datetime("us", "UTC")):
                return None
            series = series.to_physical()
        if not series.dtype.is_integer() or series.null_count() == len(series):
            return None
        low, high = series.min(), series.max()
        return (low, high) if isinstance(low, int) and isinstance(high, int) else None

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows as batches."""
        data = self.frame.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest())
        return iter(data.combine_chunks().to_batches(max_chunksize=BATCH))

    def packed(self, column: str) -> None:
        """None: what is in memory is not packed."""


def parts_of(frame: pl.DataFrame) -> list[Part]:
    """A frame as parts of about a million rows."""
    return [FramePart(frame[first : first + _PART]) for first in range(0, frame.height, _PART)]

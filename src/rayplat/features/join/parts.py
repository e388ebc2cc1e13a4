"""Parts: a source as pieces that can be read one by one, in any order, several times.

Knows what the join needs of a piece and gives in-memory rows as pieces; it does not know files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl
import pyarrow as pa

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


def parts_of(frame: pl.DataFrame) -> list[Part]:
    """A frame as parts of about a million rows."""
    return [FramePart(frame[first : first + _PART]) for first in range(0, frame.height, _PART)]

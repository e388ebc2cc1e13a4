"""A source's rows in the one order that everything else relies on, and bisection by entity and time.

Knows event time, known time and the order of ties; it does not know expressions.

The order of rows within an entity is (event time, known time, offset, partition); where a table has no
offsets the position of the row stands for it. A row is visible at `t` from max(event time, known time).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from rayplat.core.project.table import Table
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import BEGINNING, Int64s, instants

_SMALL = 20_000


@dataclass(frozen=True, slots=True)
class Timeline:
    """Rows of a source, sorted by entity code and then in their order; rows without entity left out.

    Attributes:
        frame: the rows, in sorted order.
        code: the entity of each row, not negative, rising.
        event: event time in microseconds.
        known: known time in microseconds.
    """

    frame: pl.DataFrame
    code: Int64s
    event: Int64s
    known: Int64s

    @property
    def late(self) -> bool:
        """Whether some row became known only after its event time."""
        return bool((self.known > self.event).any())


def timeline(source: pl.DataFrame, table: Table, code: Int64s) -> Timeline:
    """Sort a source's rows.

    Args:
        source: the rows, with the times that `table` declares.
        code: the entity of each row; negative where it has none, which drops the row.

    Raises:
        UserError: a time column is missing or is no UTC time.
    """
    event, event_null = _times(source, table.event_time or table.known_at, table)
    known, known_null = _times(source, table.told_by, table)
    keep = (code >= 0) & ~event_null & ~known_null
    order = _order(source, code, event, known)
    order = order[keep[order]]
    frame = source if _is_range(order, source.height) else source.select(pl.all().gather(order))
    return Timeline(frame, code[order], event[order], known[order])


def _times(source: pl.DataFrame, column: str | None, table: Table) -> tuple[Int64s, np.ndarray]:
    if column is None:
        return np.full(source.height, BEGINNING), np.zeros(source.height, dtype=bool)
    series = instants(source, column, f"the rows of {table.name!r}")
    if series.null_count() == 0:
        return series.to_physical().to_numpy(), np.zeros(len(series), dtype=bool)
    return series.to_physical().fill_null(0).to_numpy(), series.is_null().to_numpy()


def _order(source: pl.DataFrame, code: Int64s, event: Int64s, known: Int64s) -> Int64s:
    keys: list[np.ndarray] = [code, event, known]
    keys += [source.get_column(c).to_numpy() for c in (OFFSET, PARTITION) if c in source.columns]
    if source.height <= _SMALL:
        return np.lexsort(keys[::-1])
    frame = pl.DataFrame({str(i): key for i, key in enumerate(keys)})
    return (
        frame.select(pl.arg_sort_by(frame.columns, maintain_order=True))
        .to_series()
        .to_numpy()
        .astype(np.int64)
    )


def _is_range(order: Int64s, height: int) -> bool:
    return len(order) == height and bool((order == np.arange(height)).all())


class Bisection:
    """Counts rows up to a time within an entity, for many questions at once.

    Args:
        code: entity codes, rising.
        time: times, rising within an entity.
    """

    def __init__(self, code: Int64s, time: Int64s) -> None:
        self._times = np.unique(time)
        # Times become ranks, so that code and time fit one int64 whatever the times are.
        self._span = len(self._times) + 1
        self._keys = code * self._span + np.searchsorted(self._times, time)

    def until(self, code: Int64s, time: Int64s) -> Int64s:
        """The position after the last row of entity `code` with a time <= `time`, for each question."""
        rank = np.searchsorted(self._times, time, side="right")
        return np.searchsorted(self._keys, code * self._span + rank, side="left")

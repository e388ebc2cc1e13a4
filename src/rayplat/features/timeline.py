"""A source's rows in the one order that everything else relies on, and bisection by entity and time.

Knows event time, known time and the order of ties; it does not know expressions.

The order of rows within an entity is (event time, known time, offset, partition); where a table has no
offsets the position of the row stands for it. A row is visible at `t` from max(event time, known time).
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from os import cpu_count

import numpy as np
import polars as pl

from rayplat.core.project.table import Table
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import BEGINNING, Int64s, instants

_SMALL = 20_000


@dataclass(frozen=True)
class Timeline:
    """Rows of a source, sorted by entity code and then in their order; rows without entity left out.

    Attributes:
        rows: the rows, as they came.
        code: the entity of each row, not negative, rising.
        event: event time in microseconds.
        known: known time in microseconds.
        order: the positions in `rows` of the sorted rows; None: they are sorted.
    """

    rows: pl.DataFrame
    code: Int64s
    event: Int64s
    known: Int64s
    order: Int64s | None = None

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The rows, in sorted order."""
        return self.columns(self.rows.columns)

    def columns(self, names: Collection[str]) -> pl.DataFrame:
        """Some columns of the rows, in sorted order."""
        taken = self.rows.select(names)
        order = self.order
        if order is None:
            return taken
        if len(order) <= _SMALL or len(taken.columns) == 0:
            return taken.select(pl.all().gather(order))
        with ThreadPoolExecutor(cpu_count()) as pool:
            return pl.DataFrame(list(pool.map(lambda column: _gather(column, order), taken.get_columns())))

    @property
    def late(self) -> bool:
        """Whether some row became known only after its event time."""
        return self.known is not self.event and bool((self.known > self.event).any())


def timeline(source: pl.DataFrame, table: Table, code: Int64s) -> Timeline:
    """Sort a source's rows.

    Args:
        source: the rows, with the times that `table` declares.
        code: the entity of each row; negative where it has none, which drops the row.

    Raises:
        UserError: a time column is missing or is no UTC time.
    """
    event, event_null = times(source, table.event_time or table.known_at, table)
    known, known_null = event, event_null
    if table.told_by != (table.event_time or table.known_at):
        known, known_null = times(source, table.told_by, table)
    keep = (code >= 0) & ~event_null & ~known_null
    order = _order(source, code, event, known, keep)
    if _is_range(order, source.height):
        return Timeline(source, code, event, known)
    sorted_event = event[order]
    sorted_known = sorted_event if known is event else known[order]
    return Timeline(source, code[order], sorted_event, sorted_known, order)


def _gather(column: pl.Series, order: Int64s) -> pl.Series:
    # NumPy takes fixed values faster than Polars, and lets other threads run.
    if column.null_count() or not (column.dtype.is_numeric() or column.dtype.is_temporal()):
        return column.gather(pl.Series(order))
    taken = column.to_physical().to_numpy().take(order)
    return pl.Series(column.name, taken).cast(column.dtype)


def times(source: pl.DataFrame, column: str | None, table: Table) -> tuple[Int64s, np.ndarray]:
    """A column of times in microseconds, and where it is null.

    Args:
        source: the rows; `table`: their declaration, for the message.
        column: None: the rows were always so.

    Raises:
        UserError: the column is missing or is no UTC time.
    """
    if column is None:
        return np.full(source.height, BEGINNING), np.zeros(source.height, dtype=bool)
    series = instants(source, column, f"the rows of {table.name!r}")
    if series.null_count() == 0:
        return series.to_physical().to_numpy(), np.zeros(len(series), dtype=bool)
    return series.to_physical().fill_null(0).to_numpy(), series.is_null().to_numpy()


def _order(source: pl.DataFrame, code: Int64s, event: Int64s, known: Int64s, keep: np.ndarray) -> Int64s:
    keys: list[np.ndarray] = [event] if known is event else [event, known]
    keys += [source.get_column(c).to_numpy() for c in (OFFSET, PARTITION) if c in source.columns]
    if source.height <= _SMALL:
        order = np.lexsort([*keys[::-1], code])
        return np.compress(keep[order], order)
    from rayplat.features.ordering import order_of

    return order_of(np.where(keep, code, -1), keys)


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

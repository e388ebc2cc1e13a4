"""Shift: whether a column's values of the last 24 hours are spread as those of the 24 hours before.

Knows the event-time windows and keeps their histograms; it does not know when a round is committed.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from rayplat.core.project.check import Distribution
from rayplat.data.quality.findings import Finding
from rayplat.data.quality.pruning import after
from rayplat.data.quality.stability import Counts, Floats, chance, counts_of, edges_of, psi

_DAY = timedelta(days=1)

Read = Callable[[list[str], str], pl.DataFrame]
"""Reads columns of the stored rows that pass a filter."""


class Shift:
    """Judges the rounds of one column, one after the other.

    The day ends at the full hour before the newest event (never later than now), and what came since is
    counted with it. Cost: one scan of two columns over 48 hours of event time an hour, pruned by the
    files' bounds, and a binary search a row of each round. A round that is judged counts as stored, so
    one that is judged twice in the same hour (a commit that failed) counts twice until the hour is over.

    Args:
        check: the declaration; `event_time`: the column of event time.
        read: reads stored rows.
    """

    def __init__(self, check: Distribution, event_time: str, read: Read) -> None:
        self._check = check
        self._event_time = event_time
        self._read = read
        self._hour: datetime | None = None
        self._edges: Floats = np.empty(0)
        self._before: Counts = np.zeros(2, np.int64)
        self._last: Counts = np.zeros(2, np.int64)

    def judge(self, frame: pl.DataFrame, now: datetime) -> Finding | None:
        """What is to be told of the last day with these rows; None where it is like the day before."""
        newest = frame[self._event_time].max()
        if not isinstance(newest, datetime):
            return None
        hour = min(newest, now).replace(minute=0, second=0, microsecond=0)
        if hour != self._hour:
            self._load(hour)
        self._last += counts_of(self._values(frame, hour - _DAY), self._edges)
        if not self._before.sum() or not self._last.sum():
            return None
        found, by_chance = psi(self._before, self._last), chance(self._before, self._last)
        if found <= self._check.psi or found <= by_chance:
            return None
        return Finding(
            f"distribution({self._check.column})",
            f"PSI {found:.3f} over {self._check.psi:g} (chance: {by_chance:.3f}) between "
            f"{self._last.sum():,} values since {hour - _DAY:%Y-%m-%d %H:%M} "
            f"and {self._before.sum():,} of the 24 hours before",
        )

    def _load(self, hour: datetime) -> None:
        columns = list(dict.fromkeys([self._check.column, self._event_time]))
        stored = self._read(columns, after(self._event_time, hour - 2 * _DAY))
        before = self._values(stored, hour - 2 * _DAY, hour - _DAY)
        self._edges = edges_of(before)
        self._before = counts_of(before, self._edges)
        self._last = counts_of(self._values(stored, hour - _DAY), self._edges)
        self._hour = hour

    def _values(self, frame: pl.DataFrame, start: datetime, end: datetime | None = None) -> Floats:
        time = pl.col(self._event_time)
        within = frame.filter(time >= start if end is None else time.is_between(start, end, closed="left"))
        values: Floats = within[self._check.column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return values

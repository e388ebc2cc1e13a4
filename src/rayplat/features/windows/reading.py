"""Which parts of a source the windows of questions can reach, and the rows of those parts alone.

Knows times and the bounds of parts; it does not know windows beyond how far they reach, nor files.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from rayplat.core.project.table import Table
from rayplat.core.project.view import FeatureView
from rayplat.features.instants import Int64s
from rayplat.features.join.parts import Part
from rayplat.features.join.turns import THREADS
from rayplat.features.lake import Lake, pinned, to_frame
from rayplat.features.plan import plan


@dataclass(frozen=True, slots=True)
class During:
    """A stretch of event times, us; None: open on that side."""

    since: int | None = None
    until: int | None = None

    def holds(self, part: Part, table: Table) -> bool:
        """Whether a part may have rows in it."""
        bounds = None if table.event_time is None else part.bounds(table.event_time)
        if part.rows == 0 or bounds is None:
            return part.rows > 0
        early = self.since is not None and bounds[1] < self.since
        return not early and (self.until is None or bounds[0] <= self.until)

    def rows(self, events: pl.DataFrame, table: Table) -> pl.DataFrame:
        """The rows that may matter; those without a time never do."""
        if table.event_time is None:
            return events
        time = events.get_column(table.event_time)
        if time.dtype != pl.Datetime("us", "UTC") or time.null_count():
            return events
        place = time.to_physical()
        keep = place >= self.since if self.since is not None else None
        if self.until is not None:
            early = place <= self.until
            keep = early if keep is None else keep & early
        return events if keep is None or keep.all() else events.filter(keep)


def reached(views: Sequence[FeatureView], first: int, last: int) -> During:
    """The event times of rows that views can see.

    Args:
        views: of one source.
        first, last: the times of the first and the last question, us; `first` > `last`: there are none.
    """
    windowed = bool(views) and all(view.windowed for view in views)
    back = max((plan(view).reach_us for view in views), default=0)
    return During(first - back if windowed else None, last)


def read_reached(
    views: Sequence[FeatureView], at: Int64s, lake: Lake, snapshots: Mapping[str, int]
) -> pl.DataFrame | None:
    """The parts of a pinned source that the windows of questions reach, as one frame.

    Args:
        views: windowed views of one source; `at`: the times of the questions, at least one.

    Returns:
        None where every part is reached, or nothing is pinned: then the source is read as a whole.

    Raises:
        UserError: the table has rows but no pinned snapshot, or lacks a column.
    """
    table = views[0].source
    stored = lake.table(table.name)
    columns = list(dict.fromkeys(c for view in views for c in plan(view).columns))
    schema, snapshot = pinned(stored, table.name, columns, snapshots)
    if snapshot is None:
        return None
    during = reached(views, int(at.min()), int(at.max()))
    parts = stored.parts(schema.names, snapshot)
    kept = [part for part in parts if during.holds(part, table)]
    if len(kept) == len(parts):
        return None
    if not kept:
        return to_frame(schema.empty_table())
    with ThreadPoolExecutor(THREADS, "windows") as pool:
        read = list(pool.map(lambda part: pa.Table.from_batches(part.batches(schema.names)), kept))
    return to_frame(pa.concat_tables(read)).select(schema.names)

"""Window aggregates straight from a source's rows, which nobody has sorted: the way of many rows.

Knows columns: entities, times and what orders equal times; it does not know the arithmetic, nor expressions
that reduce a window.
"""

import numpy as np
import polars as pl

from rayplat.core.errors import BugError
from rayplat.core.project.view import FeatureView
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import Int64s
from rayplat.features.join.keys import keys_of
from rayplat.features.join.stream import array_of
from rayplat.features.plan import Plan
from rayplat.features.questions import Bools, Questions
from rayplat.features.timeline import times
from rayplat.features.windows import large
from rayplat.features.windows.blocks import BLOCK, Rows

_ENDS = frozenset({"first", "last"})


def features(
    prepared: Plan, source: pl.DataFrame, asking: pl.DataFrame, at: Int64s, size: int = BLOCK
) -> pl.DataFrame:
    """The features of a windowed view, one row a question.

    Args:
        prepared: the plan of a view all of whose features are of `core.project.window.KINDS`.
        source: the rows that may answer, in any order.
        asking: the keys of the asking rows, named and typed as in the source.
        at: the time of each asking row, us.
        size: see `blocks.BLOCK`.

    Raises:
        UserError: a time column is missing or is no UTC time, values are of a type that does not aggregate,
            or a sum of integers does not fit 64 bits.
    """
    view = prepared.view
    if not isinstance(view, FeatureView):
        raise BugError(f"view {view.name!r} has no table, and no rows that could answer")
    keys = keys_of([array_of(series) for series in asking])
    code = keys.codes([array_of(source.get_column(name)) for name in view.entity])
    event, null = times(source, view.source.event_time, view.source)
    known, unknown = event, null
    if view.source.told_by != view.source.event_time:
        known, unknown = times(source, view.source.told_by, view.source)
    lost: Bools = null | unknown
    if lost.any():
        code = np.where(lost, np.int32(-1), code)
    ends = any(feature.kind in _ENDS for feature in prepared.windows)
    rows = Rows(code, event, known, _ties(source, event, known) if ends else ())
    asked = keys.asked.astype(np.int64)
    questions = Questions(asked, asked < 0, at)
    found, _ = large.aggregate(prepared.windows, rows, source, questions, tell_newest=False, size=size)
    return pl.DataFrame(found).select(view.names)


def _ties(source: pl.DataFrame, event: Int64s, known: Int64s) -> list[Int64s]:
    """What orders rows of equal event times, besides their position."""
    told = [] if known is event else [known]
    system = [name for name in (OFFSET, PARTITION) if name in source.columns]
    return told + [source.get_column(name).cast(pl.Int64).to_numpy() for name in system]

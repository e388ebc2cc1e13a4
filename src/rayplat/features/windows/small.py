"""Window aggregates of a few questions, in plain Python: no compiled code to load, the same bits.

Knows one accumulator a window; it does not know many rows.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from rayplat.features.aggregates.accumulator import Accumulator, Rank
from rayplat.features.aggregates.values import Value, column, values_of
from rayplat.features.instants import Int64s
from rayplat.features.plan import WindowFeature
from rayplat.features.questions import Questions
from rayplat.features.timeline import Timeline
from rayplat.features.windows.streams import Group, Span, groups, inputs, longest, span

Places = dict[Span, tuple[Int64s, Int64s]]
"""By window, the positions [low, high) of each question's rows."""


def aggregate(
    features: Sequence[WindowFeature], line: Timeline, questions: Questions, places: Places
) -> tuple[list[pl.Series], Int64s]:
    """Features of the kinds `core.project.window.KINDS`, one row a question.

    Returns:
        the features, in no order, and the position of the newest row in the longest window (-1: none).
    """
    known = {shape: list(_known(line, questions, *ends)) for shape, ends in places.items()}
    found = []
    for group in groups(features, line.code, line.columns(inputs(features))):
        for stream in group.streams:
            values = values_of(stream.values)
            for shape in group.spans:
                alike = [feature for feature in stream.features if span(feature) == shape]
                if alike:
                    states = [
                        _accumulate(alike, stream.values.dtype, group, rows, values) for rows in known[shape]
                    ]
                    found += [_answer(feature, stream.values.dtype, states, questions) for feature in alike]
    newest = np.array([rows[-1] if len(rows) else -1 for rows in known[longest(features)]], dtype=np.int64)
    return found, newest


def _known(line: Timeline, questions: Questions, low: Int64s, high: Int64s) -> Iterator[Int64s]:
    for at, first, last in zip(questions.at.tolist(), low.tolist(), high.tolist(), strict=True):
        yield first + np.flatnonzero(line.known[first:last] <= at)


def _accumulate(
    features: Sequence[WindowFeature], dtype: pl.DataType, group: Group, rows: Int64s, values: list[Value]
) -> Accumulator:
    state = Accumulator(frozenset(feature.kind for feature in features), dtype)
    if group.rows is not None:
        place = np.searchsorted(group.rows, rows)
        place = np.minimum(place, len(group.rows) - 1)
        rows = place[group.rows[place] == rows] if len(group.rows) else rows[:0]
    ranks: list[Rank] = [(0, 0, row, 0) for row in rows.tolist()]
    state.update([values[row] for row in rows.tolist()], ranks)
    return state


def _answer(
    feature: WindowFeature, dtype: pl.DataType, states: list[Accumulator], questions: Questions
) -> pl.Series:
    results = [
        None if null else state.result(feature.kind, feature.q)
        for state, null in zip(states, questions.null.tolist(), strict=True)
    ]
    return column(feature.name, feature.kind, dtype, results)

"""Window aggregates as of each question: pairs of question and source row, reduced by Polars.

Knows window bounds and how to keep the pairs in bounded memory; it does not know where rows come from.

A row belongs to a window when its event time lies in (at - length, at] and its known time is <= at.
Pairs of a question are contiguous and in the timeline's order, whichever rows stand around them: an
aggregate sees the same values in the same order in a large join and in a single request, and gives the
same bits.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from rayplat.features.instants import Int64s
from rayplat.features.plan import Plan
from rayplat.features.questions import Bools, Questions
from rayplat.features.timeline import Bisection, Timeline

PAIRS_AT_ONCE = 2_000_000
Pairs = tuple[Int64s, Int64s]
"""Question and source position, pair by pair."""

_ROW = "\0row"
_LAST = "\0last"


def aggregate(
    plan: Plan, line: Timeline, questions: Questions, pairs_at_once: int = PAIRS_AT_ONCE
) -> tuple[pl.DataFrame, Int64s]:
    """All window features of the view, one row a question.

    Windows of one length share a pass. An empty window gives what the aggregate gives for no rows (0 for
    sums and counts, null for means); a question without an entity gives null.

    Args:
        plan: the plan of a windowed view.
        line: the source's rows.
        questions: the questions.
        pairs_at_once: bounds memory: about this many pairs, and at least one question, at a time.

    Returns:
        the features in declared order, and the position of the newest row in the longest window (-1: none).
    """
    index = Bisection(line.code, line.event)
    inputs = line.frame.select(plan.view.inputs)
    newest = np.full(len(questions.at), -1)
    parts: list[pl.DataFrame] = []
    for length, exprs in sorted(plan.windows.items()):
        pairs = _pairs(*_bounds(index, questions, length), pairs_at_once)
        if line.late:
            pairs = _known(pairs, line, questions)
        values, newest = _one_length(inputs, exprs, questions.null, pairs)
        parts.append(values)
    return pl.concat(parts, how="horizontal").select(plan.view.names), newest


def _bounds(index: Bisection, questions: Questions, length: int) -> tuple[Int64s, Int64s]:
    high = index.until(questions.code, questions.at)
    low = index.until(questions.code, questions.at - length)
    unknown = questions.code < 0
    return np.where(unknown, 0, low), np.where(unknown, 0, high)


def _one_length(
    inputs: pl.DataFrame, exprs: list[pl.Expr], null: Bools, pairs: Iterator[Pairs]
) -> tuple[pl.DataFrame, Int64s]:
    empty = inputs.clear().select(exprs)
    chunks = [empty.clear()]
    rows: list[Int64s] = [np.empty(0, dtype=np.int64)]
    newest = np.full(len(null), -1)
    for row, source in pairs:
        reduced = _reduce(inputs, row, source, exprs)
        answered = reduced.get_column(_ROW).to_numpy()
        newest[answered] = reduced.get_column(_LAST).to_numpy()
        rows.append(answered)
        chunks.append(reduced.drop(_ROW, _LAST))
    # One row for empty windows and one for questions without entity stand after the reduced ones.
    reduced = pl.concat([*chunks, empty, empty.clear(1)], how="vertical_relaxed")
    place = np.where(null, reduced.height - 1, reduced.height - 2)
    answered = np.concatenate(rows)
    place[answered] = np.arange(len(answered))
    return reduced.select(pl.all().gather(pl.Series(place))), newest


def _known(pairs: Iterator[Pairs], line: Timeline, questions: Questions) -> Iterator[Pairs]:
    """Only the pairs whose source row was known when the question was asked."""
    for row, source in pairs:
        keep = line.known[source] <= questions.at[row]
        yield row[keep], source[keep]


def _reduce(inputs: pl.DataFrame, row: Int64s, source: Int64s, exprs: list[pl.Expr]) -> pl.DataFrame:
    # A sorted key makes each group a slice: the reduction sees the pairs in order and never in parts.
    keys = pl.DataFrame([pl.Series(_ROW, row).set_sorted(), pl.Series(_LAST, source)])
    if inputs.width:
        keys = keys.hstack(inputs.select(pl.all().gather(pl.Series(source))))
    grouped = keys.group_by(_ROW, maintain_order=True)
    return grouped.agg(*exprs, pl.col(_LAST).last())


def _pairs(low: Int64s, high: Int64s, at_once: int) -> Iterator[Pairs]:
    """Yield (question, source position) pairs in order, in chunks of whole questions."""
    counts = np.maximum(high - low, 0)
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        before = int(ends[first - 1]) if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, before + at_once, side="right")))
        taken = counts[first:stop]
        total = int(ends[stop - 1]) - before
        if total:
            shift = low[first:stop] - (ends[first:stop] - taken - before)
            yield np.repeat(np.arange(first, stop), taken), np.repeat(shift, taken) + np.arange(total)
        first = stop

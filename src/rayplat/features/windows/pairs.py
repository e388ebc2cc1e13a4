"""Window aggregates by any Polars expression: pairs of question and source row, reduced by Polars.

Knows how to keep the pairs in bounded memory; it does not know where rows come from.

Pairs of a question are contiguous and in the timeline's order, whichever rows stand around them: an
aggregate sees the same values in the same order in a large join and in a single request, and gives the
same bits.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from rayplat.features.instants import Int64s
from rayplat.features.plan import WindowFeature
from rayplat.features.questions import Bools, Questions
from rayplat.features.timeline import Bisection, Timeline
from rayplat.features.windows.streams import Span, passing, span

PAIRS_AT_ONCE = 2_000_000
Pairs = tuple[Int64s, Int64s]
"""Question and source position, pair by pair."""

_ROW = "\0row"


def expressions(
    features: Sequence[WindowFeature],
    line: Timeline,
    questions: Questions,
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> list[pl.Series]:
    """Features by Polars expressions, one row a question.

    An empty window gives what the expression gives for no rows; a question without an entity gives null.

    Args:
        pairs_at_once: bounds memory: about this many pairs, and at least one question, at a time.
    """
    if not features:
        return []
    index = Bisection(line.code, line.event)
    alike: dict[tuple[Span, bytes], list[WindowFeature]] = {}
    for feature in features:
        where = b"" if feature.where is None else feature.where.meta.serialize()
        alike.setdefault((span(feature), where), []).append(feature)
    found: list[pl.Series] = []
    for (shape, _), together in alike.items():
        low, high = bounds(index, questions, shape)
        pairs = _visible(_pairs(low, high, pairs_at_once), line, questions, passing(together[0], line.frame))
        found += _reduce_all(line.frame, together, questions.null, pairs)
    return found


def bounds(index: Bisection, questions: Questions, shape: Span) -> tuple[Int64s, Int64s]:
    """The positions [low, high) of the rows in the bounds of each question's window."""
    every, length = shape
    # Times are whole microseconds: before `end` is up to the one before it.
    until = questions.at // every * every - 1 if every else questions.at
    high = index.until(questions.code, until)
    low = index.until(questions.code, until - length)
    unknown = questions.code < 0
    return np.where(unknown, 0, low), np.where(unknown, 0, high)


def _reduce_all(
    frame: pl.DataFrame, features: Sequence[WindowFeature], null: Bools, pairs: Iterator[Pairs]
) -> list[pl.Series]:
    exprs = [feature.value.alias(feature.name) for feature in features]
    inputs = frame.select(sorted({c for expr in exprs for c in expr.meta.root_names()}))
    empty = inputs.clear().select(exprs)
    chunks = [empty.clear()]
    rows: list[Int64s] = [np.empty(0, dtype=np.int64)]
    for row, source in pairs:
        reduced = _reduce(inputs, row, source, exprs)
        rows.append(reduced.get_column(_ROW).to_numpy())
        chunks.append(reduced.drop(_ROW))
    # One row for empty windows and one for questions without entity stand after the reduced ones.
    together = pl.concat([*chunks, empty, empty.clear(1)], how="vertical_relaxed")
    place = np.where(null, together.height - 1, together.height - 2)
    answered = np.concatenate(rows)
    place[answered] = np.arange(len(answered))
    return together.select(pl.all().gather(pl.Series(place))).get_columns()


def _visible(
    pairs: Iterator[Pairs], line: Timeline, questions: Questions, passed: Bools | None
) -> Iterator[Pairs]:
    """Only the pairs whose source row was known when the question was asked, and passes the filter."""
    for row, source in pairs:
        keep = line.known[source] <= questions.at[row]
        if passed is not None:
            keep &= passed[source]
        yield row[keep], source[keep]


def _reduce(inputs: pl.DataFrame, row: Int64s, source: Int64s, exprs: list[pl.Expr]) -> pl.DataFrame:
    # A sorted key makes each group a slice: the reduction sees the pairs in order and never in parts.
    keys = pl.DataFrame([pl.Series(_ROW, row).set_sorted()])
    if inputs.width:
        keys = keys.hstack(inputs.select(pl.all().gather(pl.Series(source))))
    return keys.group_by(_ROW, maintain_order=True).agg(*exprs)


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

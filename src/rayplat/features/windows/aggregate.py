"""Window aggregates as of each question: which way they are computed, and the one answer of all ways.

Knows windows by their kinds and sizes; it does not know where rows come from.

A row belongs to a sliding window when its event time lies in (at - length, at], and to a hopping one when it
lies in [end - length, end), where `end` is the last multiple of `every` that is not after `at`; and its known
time is <= at. The kinds of `core.project.window.KINDS` depend neither on the order of rows nor on what stands
around them, so that a large join, a single request and the online tiles give the same bits.
"""

import numpy as np
import polars as pl

from rayplat.features.instants import Int64s
from rayplat.features.plan import Plan
from rayplat.features.questions import Questions
from rayplat.features.timeline import Bisection, Timeline
from rayplat.features.windows.pairs import bounds, expressions
from rayplat.features.windows.small import aggregate as aggregate_few
from rayplat.features.windows.streams import inputs, span

SMALL = 4_096
"""Up to so many pairs of question and row, plain Python is done before the kernels are loaded."""


def aggregate(
    plan: Plan, line: Timeline, questions: Questions, small: int = SMALL
) -> tuple[pl.DataFrame, Int64s]:
    """All window features of the view, one row a question.

    An empty window gives what the aggregate gives for no rows (0 for sums and counts, null for means); a
    question without an entity gives null.

    Args:
        plan: the plan of a windowed view.
        line: the source's rows.
        questions: the questions.
        small: up to how many pairs of question and row are reduced in plain Python; see `SMALL`.

    Returns:
        the features in declared order, and the position of the newest row in the longest window (-1: none).

    Raises:
        UserError: values are of a type that does not aggregate, or a sum of integers does not fit 64 bits.
    """
    if len(questions.at) <= small and len(line.code) <= 16 * small:
        index = Bisection(line.code, line.event)
        places = {shape: bounds(index, questions, shape) for shape in {span(f) for f in plan.windows}}
        pairs = sum(int(np.maximum(high - low, 0).sum()) for low, high in places.values())
        if pairs <= small:
            found, newest = aggregate_few(plan.windows, line, questions, places)
            return _in_order(plan, line, questions, found), newest
    # Imported here: kernels are loaded only by who has many rows.
    from rayplat.features.windows import large
    from rayplat.features.windows.blocks import Rows

    rows = Rows(line.code.astype(np.int32), line.event, line.known)
    found, newest = large.aggregate(plan.windows, rows, line.columns(inputs(plan.windows)), questions)
    return _in_order(plan, line, questions, found), newest


def _in_order(plan: Plan, line: Timeline, questions: Questions, found: list[pl.Series]) -> pl.DataFrame:
    rest = [feature for feature in plan.windows if feature.kind == "expression"]
    return pl.DataFrame([*found, *expressions(rest, line, questions)]).select(plan.view.names)

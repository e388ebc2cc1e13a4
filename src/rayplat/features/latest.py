"""The last value of an entity as known at a time: which source row answers, and its transforms.

Knows the rule of the last known row and the ttl; it does not know how rows are sorted or stored.

Among the rows visible at `at`, the greatest in the order of the timeline wins. Visibility and that order
differ when rows come late, so rows are walked as they become visible while the greatest position so far
is kept: what a question finds is the winner among all rows visible to it, late ones included.
"""

import numpy as np
import polars as pl

from rayplat.features.evaluate import evaluate
from rayplat.features.instants import BEGINNING, Int64s
from rayplat.features.plan import Plan
from rayplat.features.timeline import Bisection, Timeline


def choose(line: Timeline, code: Int64s, at: Int64s, ttl_us: int | None) -> Int64s:
    """The position in the timeline of the row that answers each question; -1 where none does.

    A row is too old when at - event_time > ttl: a row exactly as old as the ttl still answers.
    """
    if len(line.code) == 0:
        return np.full(len(code), -1)
    visible = np.maximum(line.event, line.known)
    walk = np.lexsort((visible, line.code)) if line.late else np.arange(len(line.code))
    # Positions rise with the entity's code, so the running maximum starts anew at each entity.
    greatest = np.maximum.accumulate(walk)
    last = Bisection(line.code, visible[walk]).until(code, at) - 1
    chosen = np.where(last >= 0, greatest[last], -1)
    found = (chosen >= 0) & (line.code[chosen] == code)
    if ttl_us is not None:
        found &= line.event[chosen] >= _back(at, ttl_us)
    return np.where(found, chosen, -1)


def _back(at: Int64s, length_us: int) -> Int64s:
    return np.where(at < BEGINNING + length_us, BEGINNING, at - length_us)


def transform(plan: Plan, line: Timeline, chosen: Int64s) -> pl.DataFrame:
    """Evaluate the row transforms on the chosen rows; null where no row was chosen."""
    where = pl.Series("\0chosen", chosen)
    matched = where >= 0
    inputs = plan.view.inputs
    taken = line.frame.select(pl.col(inputs).gather(where.set(~matched, None))) if inputs else pl.DataFrame()
    return masked(plan, taken, matched, nulled=True)


def masked(plan: Plan, taken: pl.DataFrame, matched: pl.Series, *, nulled: bool = False) -> pl.DataFrame:
    """Evaluate row transforms on rows that were picked already.

    Args:
        plan: the plan of the view.
        taken: the view's inputs, one row a question.
        matched: where there is a row that answers; elsewhere the features are null.
        nulled: whether the inputs are null already where there is none.
    """
    if nulled and taken.width and all(expr.meta.is_column() for expr in plan.rows.values()):
        return evaluate(taken, (expr.alias(name) for name, expr in plan.rows.items()))
    # The mask keeps an expression such as is_null() from answering for a row that does not exist.
    asking = matched.alias("\0chosen")
    given = taken.with_columns(asking) if taken.width else pl.DataFrame([asking])
    answered = pl.col("\0chosen")
    return evaluate(given, (pl.when(answered).then(expr).alias(name) for name, expr in plan.rows.items()))

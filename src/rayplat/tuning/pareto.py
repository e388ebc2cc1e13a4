"""Which trials of a study are the best: of one objective the best one, of several those that none beats.

Knows values and directions; it does not know how they were measured.
"""

import math
from collections.abc import Sequence

from rayplat.tuning.journal import COMPLETE, KeptStudy, KeptTrial, Objective


def minimised(values: Sequence[float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The values with the sign that makes lower better."""
    return tuple(-v if o.higher_is_better else v for v, o in zip(values, objectives, strict=True))


def front(study: KeptStudy) -> list[KeptTrial]:
    """The complete trials that no other one beats, the best of the first objective first.

    One trial beats another if it is no worse in any objective and better in one.
    """
    at = {
        t.number: minimised(t.values, study.objectives)
        for t in study.trials
        if t.state == COMPLETE and all(math.isfinite(v) for v in t.values)
    }
    best = [n for n in at if not any(_beats(at[o], at[n]) for o in at)]
    by_number = {t.number: t for t in study.trials}
    return [by_number[n] for n in sorted(best, key=lambda n: (at[n], n))]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))

"""Which checkpoints are kept: a pure decision over what there is.

Knows the rules; it does not know where checkpoints lie or how they are removed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rayplat.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint as the rules see it."""

    name: str
    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: the union of the rules. The newest two always are, by `last`, unless it is 1.

    Attributes:
        last: so many of the newest, at least 1. With 1 there is nothing to fall back to if it is damaged.
        best: so many of the best by `metric`; those without it are never among them.
        metric: by which, empty where `best` is 0.
        higher_is_better: of the metric.
        every: also the first one at or after each multiple of so many steps; 0 for none.
    """

    last: int = 2
    best: int = 0
    metric: str = ""
    higher_is_better: bool = False
    every: int = 0

    def __post_init__(self) -> None:
        if self.last < 1 or self.best < 0 or self.every < 0 or (self.best and not self.metric):
            raise UserError(
                f"retention got last={self.last}, best={self.best}, metric={self.metric!r}, "
                f"every={self.every}",
                "give last >= 1, best >= 0 with the name of a metric, every >= 0",
            )


def superseded(there: Sequence[Kept], policy: Retention) -> tuple[str, ...]:
    """The names of those that no rule keeps, the oldest first.

    Args:
        there: all that are published, in any order.
    """
    in_order = sorted(there, key=lambda one: (one.step, one.name))
    keep = {one.name for one in in_order[-policy.last :]}
    keep |= {one.name for one in _best(in_order, policy)}
    if policy.every:
        firsts: dict[int, str] = {}
        for one in in_order:
            firsts.setdefault(one.step // policy.every, one.name)
        keep |= {name for multiple, name in firsts.items() if multiple > 0}
    return tuple(one.name for one in in_order if one.name not in keep)


def _best(there: Sequence[Kept], policy: Retention) -> list[Kept]:
    """The best by the metric; among equals the newest."""
    measured = [one for one in there if math.isfinite(one.metrics.get(policy.metric, math.nan))]
    sign = -1 if policy.higher_is_better else 1
    measured.sort(key=lambda one: (sign * one.metrics[policy.metric], -one.step))
    return measured[: policy.best]

"""Decay: whether served predictions are as good as the test period promised.

Knows the rule and nothing else: facts in, a verdict out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rayplat.core.project.model import HIGHER_IS_BETTER, Decay

LEAST_LABELLED = 100
"""With fewer known outcomes a metric says more about chance than about the model."""


@dataclass(frozen=True, slots=True)
class DecayVerdict:
    """What was promised, what is seen, and what follows.

    Attributes:
        drop: how much worse the served value is, in the metric's own unit; negative where it is better.
        decayed: whether `drop` is over the limit; False where it cannot be said.
        reason: why, in a sentence.
    """

    metric: str
    promised: float | None
    served: float | None
    drop: float | None
    decayed: bool
    reason: str


def judge(
    rule: Decay, promised: Mapping[str, float], served: Mapping[str, float | None], labelled: int
) -> DecayVerdict:
    """Compare a served metric with its value on the test period.

    Args:
        rule: which metric, and how far it may fall behind.
        promised: the metrics of the version's manifest.
        served: the metrics of the predictions whose outcome is known.
        labelled: how many those are.
    """
    then, now = promised.get(rule.metric), served.get(rule.metric)
    if then is None:
        return DecayVerdict(rule.metric, None, now, None, False, "the manifest does not tell it")
    if labelled < LEAST_LABELLED:
        reason = f"only {labelled} outcomes are known; {LEAST_LABELLED} are needed"
        return DecayVerdict(rule.metric, then, now, None, False, reason)
    if now is None:
        return DecayVerdict(rule.metric, then, None, None, False, "the outcomes are all of one class")
    drop = then - now if rule.metric in HIGHER_IS_BETTER else now - then
    decayed = drop > rule.drop_over
    change = f"{abs(drop):.4f} {'worse' if drop > 0 else 'better'}"
    reason = f"{now:.4f} served, {then:.4f} in the test period: {change}, {rule.drop_over:g} worse is allowed"
    return DecayVerdict(rule.metric, then, now, drop, decayed, reason)

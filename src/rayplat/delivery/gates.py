"""Gates: may this version become champion?

Knows how metrics are held against the declared gates; it is pure, and it does not know where the
metrics come from or what happens with the verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayplat.core.project.model import HIGHER_IS_BETTER, Gate


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate said. `reason` is a sentence with the values seen."""

    gate: Gate
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all gates said together. Without a gate the verdict is to pass."""

    results: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        return all(result.passed for result in self.results)

    @property
    def reason(self) -> str:
        """The failed gates' reasons, or else all of them, in one line."""
        failed = [r.reason for r in self.results if not r.passed]
        return "; ".join(failed or [r.reason for r in self.results]) or "no gate is declared"


def judge(
    gates: Sequence[Gate],
    metrics: Mapping[str, float],
    baselines: Mapping[str, Mapping[str, float]],
) -> Verdict:
    """Hold a version's metrics against the gates.

    Args:
        gates: the declared gates.
        metrics: metric -> value on the test period.
        baselines: baseline -> metric -> value on the same rows.
    """
    return Verdict(tuple(_judge_one(gate, metrics, baselines) for gate in gates))


def _judge_one(
    gate: Gate, metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]]
) -> GateResult:
    value = metrics.get(gate.metric)
    if value is None or math.isnan(value):
        return GateResult(gate, False, f"{gate.metric} was not measured")
    if gate.at_least is not None and value < gate.at_least:
        return GateResult(gate, False, f"{gate.metric} {value:.4f} is under {gate.at_least}")
    if gate.at_most is not None and value > gate.at_most:
        return GateResult(gate, False, f"{gate.metric} {value:.4f} is over {gate.at_most}")
    if gate.beats is not None:
        other = baselines.get(gate.beats, {}).get(gate.metric)
        if other is None:
            return GateResult(gate, False, f"{gate.metric} of {gate.beats} was not measured")
        better = value > other if gate.metric in HIGHER_IS_BETTER else value < other
        sign = "beats" if better else "does not beat"
        return GateResult(gate, better, f"{gate.metric} {value:.4f} {sign} {gate.beats} with {other:.4f}")
    return GateResult(gate, True, f"{gate.metric} {value:.4f} holds its bound")

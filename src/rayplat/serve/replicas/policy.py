"""How many replicas an endpoint should have now.

Knows the requests that are on their way, the objective and the schedule's floor; it does not know how a
replica is started or ended. Pure: facts in, a frozen decision out, and the clock is an argument.

More replicas are asked for at once; fewer only when fewer have been enough for `calm_s`, and then as many as
the busiest moment of that time needed. The last one goes after `idle_s` without a request.
"""

import math
from dataclasses import dataclass, replace

from rayplat.core.project.serving import Autoscale

_NEAR = 0.7
"""Over this part of its objective, a latency is no reason for fewer replicas."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is seen of an endpoint.

    Attributes:
        replicas: that answer now.
        ongoing: requests on their way, on the average of the last moment, all replicas together.
        held: connections that wait for a replica.
        latency_s: the mean time of the answers of the last moment; None: there were none.
    """

    replicas: int
    ongoing: float
    held: int
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """What a policy keeps between its decisions.

    Attributes:
        target: the replicas that were asked for.
        needed: what was needed, and when: only what was more than all that came after it.
        asked_at: when last somebody asked.
    """

    target: int
    needed: tuple[tuple[float, int], ...] = ()
    asked_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Decision:
    """So many replicas, why, and what the next decision must know."""

    target: int
    reason: str
    past: Past


def decide(scale: Autoscale, facts: Facts, floor: int, past: Past, now: float) -> Decision:
    """So many replicas from now on.

    Args:
        scale: as declared.
        floor: the schedule's; see `schedule.floor`.
        past: of the last decision.
        now: s, of any clock that only goes forward.
    """
    asking = facts.ongoing > 0 or facts.held > 0
    past = replace(past, asked_at=now if asking else past.asked_at)
    needed, reason = _needed(scale, facts, floor)
    if past.target and not needed and now - past.asked_at < scale.idle_s:
        needed, reason = 1, "asked lately"
    lately = [(at, count) for at, count in past.needed if now - at < scale.calm_s and count > needed]
    target = lately[0][1] if lately else needed
    if target == past.target:
        reason = "not calm yet" if lately else "enough"
    elif target < past.target:
        reason = "calm"
    return Decision(target, reason, replace(past, target=target, needed=(*lately, (now, needed))))


def _needed(scale: Autoscale, facts: Facts, floor: int) -> tuple[int, str]:
    """The replicas that the facts call for, within the declared bounds."""
    found = {
        "least": scale.least,
        "schedule": floor,
        "ongoing": math.ceil(facts.ongoing / scale.ongoing),
        "held": 1 if facts.held else 0,
        "latency": _for_latency(scale, facts),
    }
    reason = max(found, key=lambda name: found[name])
    return min(found[reason], scale.most), reason


def _for_latency(scale: Autoscale, facts: Facts) -> int:
    """The replicas that the objective calls for.

    In proportion to those that answer, not to those that were asked for: while new ones start, the old
    ones' latency asks for no more. A lone request that is slow by itself is not made faster by a replica.
    """
    objective, latency = scale.latency_s, facts.latency_s
    if objective is None or latency is None or facts.ongoing <= facts.replicas:
        return 0
    if latency > objective:
        return math.ceil(facts.replicas * min(latency / objective, 2.0))
    return facts.replicas if latency > _NEAR * objective else 0

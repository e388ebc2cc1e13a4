"""The trace by which simulated spot nodes are taken away: how long each stays, decided by a seed.

Knows the rule and what is due at a moment, both pure; it does not know how a node is told or ended
(`spot_market`).
"""

import random
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from rayplat.cluster.spec import SpotTrace

LEAST_SHARE = 0.25
"""Of the mean: every node stays for at least so long, or none would ever come to work."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Say that a node is to go at `at`, s since the epoch."""

    node_id: str
    at: float


@dataclass(frozen=True, slots=True)
class Take:
    """The node goes now, whatever runs on it."""

    node_id: str


def stay_s(trace: SpotTrace, nth: int) -> float:
    """How long a spot node stays, s: a fixed part and an exponential one, whose sum has the trace's mean.

    Args:
        trace: the seed and the mean.
        nth: the node's number among all spot nodes that were started, from 0.
    """
    fixed = LEAST_SHARE * trace.stay_s
    return fixed + random.Random(f"{trace.seed}:{nth}").expovariate(1 / (trace.stay_s - fixed))  # noqa: S311  # no secret


def due(goes_at: Mapping[str, float], told: Set[str], notice_s: float, now: float) -> list[Tell | Take]:
    """What is to be done now, in the order of the nodes' ends.

    Args:
        goes_at: when each spot node that is there goes, s since the epoch.
        told: those whose end has been told.
        notice_s: how long before its end a node is told.
        now: the same clock.
    """
    found: list[Tell | Take] = []
    for node_id, at in sorted(goes_at.items(), key=lambda item: (item[1], item[0])):
        if now >= at:
            found.append(Take(node_id))
        elif now >= at - notice_s and node_id not in told:
            found.append(Tell(node_id, at))
    return found


def next_look_s(ends: Iterable[float], notice_s: float, now: float, longest: float) -> float:
    """For how long nothing is due, s; `longest` at most: a node may have come meanwhile."""
    moments = [moment for at in ends for moment in (at - notice_s, at) if moment > now]
    return min([longest, *[moment - now for moment in moments]])

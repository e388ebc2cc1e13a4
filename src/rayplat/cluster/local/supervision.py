"""When a process of the head that died is started again: a pure rule over the times of its deaths.

Knows the rule; it does not know a process.
"""

from collections.abc import Sequence
from dataclasses import dataclass

GRACE_S = 0.3
"""A whole platform that is being ended loses its processes one by one: by then the raylet is gone too."""

WINDOW_S = 60.0
MOST_IN_WINDOW = 10
LONGEST_S = 2.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after so many seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave it dead: it dies at once whenever it is started."""

    why: str


def decide(deaths: Sequence[float], now: float) -> Restart | GiveUp:
    """What follows the newest of a component's deaths.

    Args:
        deaths: times of its deaths, s, the newest last.
        now: the same clock.
    """
    recent = [at for at in deaths if now - at <= WINDOW_S]
    if len(recent) > MOST_IN_WINDOW:
        return GiveUp(f"it died {len(recent)} times within {WINDOW_S:.0f} s")
    return Restart(min(LONGEST_S, GRACE_S * 2 ** max(0, len(recent) - 1)))

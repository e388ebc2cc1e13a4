"""What a study may cost, and whether it may go on.

Knows sums alone; it does not know clocks, prices or where the sums are kept.
"""

import math
from dataclasses import dataclass

from rayplat.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that a study may cost, over all of its sittings; None is no limit.

    Args:
        trials: how many may be started.
        seconds: of time in which a driver sat over it.
        dollars: of the workers it held meanwhile.
    """

    trials: int | None = None
    seconds: float | None = None
    dollars: float | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "seconds", "dollars"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"the cap {name} is {value}", "give a number of at least 0")
        if self.trials is None and self.seconds is None and self.dollars is None:
            raise UserError("a study without any cap would never end", "give trials, seconds or dollars")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a study has cost so far."""

    trials: int = 0
    seconds: float = 0.0
    dollars: float = 0.0

    def charged(self, seconds: float, dollars_per_second: float) -> "Spent":
        """With some more time at a price; a clock that went back costs nothing."""
        seconds = max(seconds, 0.0)
        return Spent(self.trials, self.seconds + seconds, self.dollars + seconds * dollars_per_second)


@dataclass(frozen=True, slots=True)
class Room:
    """What a study may still do.

    Attributes:
        trials: how many may be started now.
        over: why running trials must end, too; empty: they may go on.
        why: why no further trial is started; empty where one may.
    """

    trials: int
    over: str = ""
    why: str = ""


def room(caps: Caps, spent: Spent, wanted: int) -> Room:
    """How many of the wanted trials may start. Time and money end running trials, a count does not."""
    if caps.seconds is not None and spent.seconds >= caps.seconds:
        text = f"the cap of {caps.seconds:g} s is reached"
        return Room(0, text, text)
    if caps.dollars is not None and spent.dollars >= caps.dollars:
        text = f"the cap of {caps.dollars:g} USD is reached"
        return Room(0, text, text)
    if caps.trials is None:
        return Room(wanted)
    left = max(caps.trials - spent.trials, 0)
    return Room(min(wanted, left), "", "" if left else f"the cap of {caps.trials} trials is reached")

"""Which trials are not worth going on with, from the values that they and others have reported.

Knows values by step, the lower the better; it does not know trials' parameters or who runs them.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from rayplat.core.errors import UserError


class Stopper(Protocol):
    """Decides at each report whether a trial goes on."""

    def goes_on(self, trial: int, step: int, value: float) -> bool:
        """Note the value of a trial at a step (from 1), lower is better; whether it goes on."""
        ...


@dataclass(slots=True)
class Asha:
    """Asynchronous successive halving, its stopping form (Li et al., MLSys 2020, algorithm 2).

    At each rung (grace, grace x reduction, …) a trial goes on if it is among the best 1/reduction of
    all that have reached the rung so far. A trial's own value at a rung counts once.
    """

    grace: int = 1
    reduction: int = 3
    rungs: defaultdict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        if self.grace < 1 or self.reduction < 2:
            raise UserError(
                f"Asha got grace={self.grace}, reduction={self.reduction}",
                "give grace >= 1 and reduction >= 2",
            )

    def goes_on(self, trial: int, step: int, value: float) -> bool:
        """By the best third (or 1/reduction) of its rung; between two rungs always."""
        rung = self.grace
        while rung < step:
            rung *= self.reduction
        if rung != step:
            return True
        there = self.rungs[rung]
        there[trial] = value
        keep = len(there) // self.reduction
        if keep == 0:  # too few to tell: the first ones go on, as long as they are the best
            return value <= min(there.values())
        return value <= sorted(there.values())[keep - 1]


@dataclass(slots=True)
class MedianStop:
    """Stops a trial whose best so far is worse than the median of the others' means up to the same step.

    Golovin et al., "Google Vizier", KDD 2017, section 3.2.2.
    """

    grace: int = 1
    least: int = 3
    reported: defaultdict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def goes_on(self, trial: int, step: int, value: float) -> bool:
        """By the running means of at least `least` others."""
        self.reported[trial][step] = value
        if step < self.grace:
            return True
        means = []
        for other, values in self.reported.items():
            until = [v for s, v in values.items() if s <= step]
            if other != trial and until and max(values) >= step:
                means.append(sum(until) / len(until))
        best = min(self.reported[trial].values())
        return len(means) < self.least or best <= median(means)

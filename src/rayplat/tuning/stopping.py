"""Which trials are not worth going on with, from the values that they and others have reported.

Knows values by step, the lower the better; it does not know trials' parameters or who runs them. A stop may
be for now alone: see `promotion` and `population`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from rayplat.core.errors import UserError


class Stopper(Protocol):
    """Decides at each report whether a trial goes on, and which of the stopped ones go on later."""

    def goes_on(self, trial: int, step: int, value: float) -> bool:
        """Note the value of a trial at a step (from 1), lower is better; whether it goes on."""
        ...

    def learn(self, trial: int, reports: Mapping[int, float], state: str) -> None:
        """Take in a trial of an earlier sitting: what it had reported, and its state in the record."""
        ...

    def ended(self, trial: int, state: str) -> None:
        """A trial has come to an end: `complete`, `stopped` or `failed`."""
        ...

    def again(self, *, last: bool) -> int | None:
        """A stopped trial that goes on now; None where there is none.

        Args:
            last: no further trial can start and none runs.
        """
        ...

    def origin(self, trial: int) -> int | None:
        """The trial whose state this one begins with."""
        ...


class FinalStops:
    """What stoppers share that stop for good: no trial goes on later or from another one."""

    def goes_on(self, trial: int, step: int, value: float) -> bool:
        """Each decides by its own rule."""
        raise NotImplementedError

    def learn(self, trial: int, reports: Mapping[int, float], state: str) -> None:
        """The reports, as if they came now."""
        for step, value in reports.items():
            self.goes_on(trial, step, value)

    def ended(self, trial: int, state: str) -> None:
        """What it has reported stays what others are compared with."""

    def again(self, *, last: bool) -> int | None:
        """A stop is for good."""
        return None

    def origin(self, trial: int) -> int | None:
        """Every trial begins at its beginning."""
        return None


@dataclass
class AshaStopping(FinalStops):
    """Asynchronous successive halving that stops for good (the form that Ray Tune has).

    At each rung (grace, grace x reduction, …) a trial goes on if it is among the best 1/reduction of
    all that have reached the rung so far. A trial's own value at a rung counts once. It needs no kept state;
    `promotion.Asha` wastes less where trials keep theirs.
    """

    grace: int = 1
    reduction: int = 3
    rungs: defaultdict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        check_rungs(self.grace, self.reduction)

    def goes_on(self, trial: int, step: int, value: float) -> bool:
        """By the best third (or 1/reduction) of its rung; between two rungs always."""
        if not is_rung(step, self.grace, self.reduction):
            return True
        there = self.rungs[step]
        there[trial] = value
        keep = len(there) // self.reduction
        if keep == 0:  # too few to tell: the first ones go on, as long as they are the best
            return value <= min(there.values())
        return value <= sorted(there.values())[keep - 1]


def check_rungs(grace: int, reduction: int) -> None:
    """Refuse rungs that are none.

    Raises:
        UserError: the first is below step 1, or the next is no later.
    """
    if grace < 1 or reduction < 2:
        raise UserError(
            f"Asha got grace={grace}, reduction={reduction}", "give grace >= 1 and reduction >= 2"
        )


def is_rung(step: int, grace: int, reduction: int) -> bool:
    """Whether a step is `grace` times a power of `reduction`."""
    rung = grace
    while rung < step:
        rung *= reduction
    return rung == step


@dataclass
class MedianStop(FinalStops):
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

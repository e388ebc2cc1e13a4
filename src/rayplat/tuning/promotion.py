"""Asynchronous successive halving by promotion: a trial waits at a rung until it is among the best there.

Knows values by step, the lower the better; it does not know what a waiting trial keeps (`states`) or who
runs it on.
"""

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from rayplat.tuning.stopping import check_rungs, is_rung


@dataclass(slots=True)
class Asha:
    """Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020, algorithm 2.

    At each rung (grace, grace x reduction, …) a trial is stopped unless it is among the best 1/reduction of
    all that have reached the rung; as more come, it goes on when it is. So the first trials, to which there
    is nothing to compare yet, cost no more than others, and one that was unlucky once is not lost.

    A trial stands at a rung by the best value that it has reported so far: a single value of a curve is
    noisier than that, and what is wanted of a trial is its best. The default reduction is the paper's.
    """

    grace: int = 1
    reduction: int = 4
    rungs: defaultdict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    passed: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    waiting: set[int] = field(default_factory=set)
    complete: set[int] = field(default_factory=set)
    _best: dict[int, float] = field(default_factory=dict)
    _ranked: defaultdict[int, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        check_rungs(self.grace, self.reduction)

    def goes_on(self, trial: int, step: int, value: float) -> bool:
        """Between two rungs always; at a rung when it is among the best there already."""
        if not self._note(trial, step, value) or trial in self.passed[step]:
            return True
        if trial not in self._best_of(step):
            return False
        self.passed[step].add(trial)
        return True

    def learn(self, trial: int, reports: Mapping[int, float], state: str) -> None:
        """Whoever has reported after a rung, or is complete, has passed it."""
        furthest = max(reports, default=0)
        for step in sorted(reports):
            if self._note(trial, step, reports[step]) and step < furthest:
                self.passed[step].add(trial)
        self.ended(trial, state)

    def ended(self, trial: int, state: str) -> None:
        """A stopped trial waits; one that has failed or is complete never goes on."""
        if state == "stopped":
            self.waiting.add(trial)
        elif state == "complete":
            self.complete.add(trial)

    def again(self, *, last: bool) -> int | None:
        """The best of the highest rung that is among its best and waits.

        At the last, when nobody is complete, it is whoever stands best at the highest rung: a study in which
        no trial came to its end would have no best one.
        """
        for step in sorted(self.rungs, reverse=True):
            for trial in self._best_of(step):
                if trial in self.waiting and trial not in self.passed[step]:
                    return self._promote(trial, step)
        if last and not self.complete:
            for step in sorted(self.rungs, reverse=True):
                there = self.rungs[step]
                able = [t for t in there if t in self.waiting and t not in self.passed[step]]
                if able:
                    return self._promote(min(able, key=lambda t: (there[t], t)), step)
        return None

    def origin(self, trial: int) -> int | None:
        """A trial goes on from its own state."""
        return None

    def _note(self, trial: int, step: int, value: float) -> bool:
        self._best[trial] = min(self._best.get(trial, math.inf), math.inf if math.isnan(value) else value)
        if not is_rung(step, self.grace, self.reduction):
            return False
        if trial not in self.rungs[step]:  # it may tell a step again, after later ones
            self.rungs[step][trial] = self._best[trial]
            insort(self._ranked[step], (self._best[trial], trial))
        return True

    def _best_of(self, step: int) -> list[int]:
        ranked = self._ranked[step]
        return [trial for _, trial in ranked[: len(ranked) // self.reduction]]

    def _promote(self, trial: int, step: int) -> int:
        self.passed[step].add(trial)
        self.waiting.discard(trial)
        return trial

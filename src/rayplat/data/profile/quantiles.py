"""Quantiles of numbers in small memory: levels of sorted buffers that travel between processes.

Knows numbers as arrays and how many each one stands for; it does not know which rows they were drawn from.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

HELD = 4096
"""Numbers of a level before it is halved."""


class Quantiles:
    """Takes numbers in, and merges.

    A number of level h stands for 2^h of them. A full level is sorted and every other number moves up:
    a compactor of Karnin et al., "Optimal Quantile Approximation in Streams" (2016), section 2, all of one
    size. Whether the odd or the even ones move alternates, so the same numbers give the same quantiles.

    A rank is off by at most L / `HELD` for L levels that were halved, whatever the numbers: halving numbers
    that stand for w each moves a rank by w or not at all, and n numbers let a level be halved at most
    n / (w * `HELD`) times (the argument of Manku et al., "Approximate Medians and other Quantiles in One
    Pass and with Limited Memory", 1998). L is at most log2(n / `HELD`) + 1: 0.2 % for a million numbers,
    0.4 % for a hundred million.
    """

    def __init__(self, levels: Sequence[Numbers] = (), turns: int = 0) -> None:
        self._levels: list[list[Numbers]] = [[level] for level in levels]
        self._turns = turns
        self._order: tuple[Numbers, Numbers] | None = None

    def __reduce__(self) -> tuple[type["Quantiles"], tuple[list[Numbers], int]]:
        return type(self), ([_joined(level) for level in self._levels], self._turns)

    @property
    def count(self) -> int:
        """How many numbers were taken in."""
        return sum(sum(map(len, level)) << h for h, level in enumerate(self._levels))

    def update(self, numbers: Numbers, level: int = 0) -> None:
        """Take numbers in; none may be NaN.

        Args:
            level: each stands for 2^level numbers.
        """
        self._order = None
        while len(self._levels) <= level:
            self._levels.append([])
        if len(numbers):
            self._levels[level].append(numbers)
            self._halve(level)

    def weighted(self, numbers: Numbers, counts: npt.NDArray[np.int64]) -> None:
        """Take in numbers of which each is there so many times."""
        for level in range(int(counts.max(initial=0)).bit_length()):
            self.update(numbers[(counts >> level) & 1 == 1], level)

    def merge(self, other: "Quantiles") -> None:
        """Take in what another one has seen."""
        for level, held in enumerate(other._levels):
            self.update(_joined(held), level)

    def at(self, ranks: Sequence[float]) -> list[float]:
        """The numbers at these ranks (0 to 1); empty where none was taken in."""
        numbers, sums = self._sorted()
        if not len(numbers):
            return []
        places = np.searchsorted(sums, np.asarray(ranks) * sums[-1] * (1 - 1e-12))
        return [float(number) for number in numbers[np.minimum(places, len(numbers) - 1)]]

    def shares(self, edges: Sequence[float]) -> list[float]:
        """The share of the numbers in each of the len(edges) + 1 bins that rising edges cut."""
        numbers, sums = self._sorted()
        if not len(numbers):
            return []
        below = np.concatenate([[0.0], sums])[np.searchsorted(numbers, np.asarray(edges), side="left")]
        cuts = np.concatenate([[0.0], below, sums[-1:]])
        return [float(share) for share in np.diff(cuts) / sums[-1]]

    def _sorted(self) -> tuple[Numbers, Numbers]:
        """The numbers by size, and how many there are up to each."""
        if self._order is None:
            held = [_joined(level) for level in self._levels]
            numbers = _joined(held)
            weights = np.repeat(2.0 ** np.arange(len(held)), [len(level) for level in held])
            order = np.argsort(numbers)
            self._order = numbers[order], np.cumsum(weights[order])
        return self._order

    def _halve(self, level: int) -> None:
        if sum(map(len, self._levels[level])) < HELD:
            return
        numbers = np.sort(_joined(self._levels[level]))
        # An odd one stays behind, so that no weight is lost.
        even = len(numbers) & ~1
        self._levels[level] = [numbers[even:].copy()]
        self._turns += 1
        self.update(numbers[self._turns & 1 : even : 2].copy(), level + 1)


def _joined(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate([np.empty(0), *parts])

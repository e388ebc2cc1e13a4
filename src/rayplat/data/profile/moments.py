"""Moments of numbers: count, mean and spread, merged without a second pass.

Knows numbers; it does not know columns.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class Moments:
    """Count, mean and the sum of squared differences from it; merged after Chan et al. (1979), section 3."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def merge(self, other: "Moments") -> None:
        """Take in the moments of other values."""
        both = self.count + other.count
        if not other.count or not both:
            return
        apart = other.mean - self.mean
        self.squares += other.squares + apart * apart * self.count * other.count / both
        self.mean += apart * other.count / both
        self.count = both

    @property
    def stddev(self) -> float | None:
        """The sample standard deviation; None of fewer than two values."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else None


def weighted(numbers: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> Moments:
    """The moments of numbers of which each is there so many times."""
    rows = int(counts.sum())
    if not rows:
        return Moments()
    # Over the whole at the end: a share of each count would round a mean of equal numbers.
    mean = float((numbers * counts).sum()) / rows
    with np.errstate(invalid="ignore"):
        return Moments(rows, mean, float((counts * (numbers - mean) ** 2).sum()))

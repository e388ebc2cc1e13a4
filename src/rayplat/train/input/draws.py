"""Random numbers of rows: a function of the run's seed, the epoch and the row, never of who computes them.

Knows how a row's numbers are drawn; it does not know what they are for. Drawn by counting (SplitMix64: Steele
and others, 2014), so any worker or task that has the row draws the same ones.
"""

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
_Words = np.ndarray[Any, np.dtype[np.uint64]]
_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64


class Draws:
    """Each call gives further numbers; the order of the calls is the same wherever the row is prepared.

    Args:
        seed: of the run.
        epoch: from 0.
        rows: the rows' numbers, int64 [n].
    """

    def __init__(self, seed: int, epoch: int, rows: np.ndarray[Any, Any]) -> None:
        of_epoch = _mixed(_mixed(np.array([seed % _WORD], np.uint64)) + np.uint64(epoch))
        self._base = _mixed(of_epoch ^ _mixed(rows.astype(np.uint64)))
        self._used = 0

    def uniform(self, columns: int) -> Floats:
        """float64 [n, columns] in [0, 1)."""
        counts = np.arange(self._used + 1, self._used + columns + 1, dtype=np.uint64)
        self._used += columns
        words = _mixed(self._base[:, None] + counts[None, :] * np.uint64(_GOLDEN))
        return np.asarray((words >> np.uint64(11)) * 2.0**-53, dtype=np.float64)

    def normal(self, columns: int) -> Floats:
        """float64 [n, columns] of the standard normal distribution (Box and Muller, 1958)."""
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(columns)))
        return np.asarray(radius * np.cos(2.0 * np.pi * self.uniform(columns)), dtype=np.float64)


def _mixed(words: _Words) -> _Words:
    words = words + np.uint64(_GOLDEN)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))

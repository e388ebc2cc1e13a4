"""Distinct values, counted in small memory: the k smallest hashes stand for all.

Knows 64-bit hashes as arrays; it does not know what was hashed. (The bindings of datasketches take one
value at a time, some hundred times slower than this.)
"""

import numpy as np
import numpy.typing as npt
import polars as pl

Hashes = npt.NDArray[np.uint64]

SMALLEST = 4096
"""How many hashes are kept: up to here the count is exact, beyond its standard error is 1.6 %."""
_SPACE = 2.0**64
_MANY = 16 * SMALLEST


class Distinct:
    """Counts distinct values; two of them merge into the count of both.

    The estimate is (k - 1) / (the k-th smallest hash as a share of the hash space), with a standard error
    of 1 / sqrt(k - 2): Bar-Yossef et al., "Counting Distinct Elements in a Data Stream" (2002), as refined
    by Beyer et al., "On Synopses for Distinct-Value Estimation" (2007), section 4.
    """

    def __init__(self) -> None:
        self._hashes: Hashes = np.empty(0, np.uint64)

    @property
    def exact(self) -> bool:
        """Whether the count is exact."""
        return len(self._hashes) < SMALLEST

    def update(self, hashes: Hashes) -> None:
        """Take hashes in; the same value must have the same hash."""
        if not self.exact:
            # After the first batches almost no hash is among the smallest any more: one comparison each.
            hashes = hashes[hashes < self._hashes[-1]]
        elif len(hashes) > _MANY:
            # Hashes are spread evenly: were these all distinct, four times as many as needed would be here.
            low = hashes[hashes < np.uint64(_SPACE * 4 * SMALLEST / len(hashes))]
            found = self._with(low)
            hashes = low if len(found) == SMALLEST else hashes
        if len(hashes):
            self._hashes = self._with(hashes)

    def _with(self, hashes: Hashes) -> Hashes:
        both = pl.Series(np.concatenate([self._hashes, hashes]), dtype=pl.UInt64).unique()
        smallest: Hashes = np.sort(both.to_numpy())[:SMALLEST]
        return smallest

    def merge(self, other: "Distinct") -> None:
        """Take in what another one has seen."""
        self.update(other._hashes)

    def estimate(self) -> int:
        """How many distinct values there are."""
        if self.exact:
            return len(self._hashes)
        return round((SMALLEST - 1) / (float(self._hashes[-1]) / _SPACE))

"""Distinct values, counted in small memory: the k smallest hashes stand for all.

Knows 64-bit hashes as arrays; it does not know what was hashed. (The bindings of datasketches take one
value at a time, some hundred times slower than this.)
"""

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

SMALLEST = 4096
"""How many hashes are kept: up to here the count is exact, beyond its standard error is 1.6 %."""
_SPACE = 2.0**64
_WAITING = SMALLEST
_EVERY = np.uint64(2**64 - 1)


class Distinct:
    """Counts distinct values; two of them merge into the count of both.

    The estimate is (k - 1) / (the k-th smallest hash as a share of the hash space), with a standard error
    of 1 / sqrt(k - 2): Bar-Yossef et al., "Counting Distinct Elements in a Data Stream" (2002), as refined
    by Beyer et al., "On Synopses for Distinct-Value Estimation" (2007), section 4.
    """

    def __init__(self, hashes: Hashes | None = None) -> None:
        self._hashes: Hashes = np.empty(0, np.uint64) if hashes is None else hashes
        self._waiting: list[Hashes] = []
        self._count = 0

    def __reduce__(self) -> tuple[type["Distinct"], tuple[Hashes]]:
        return type(self), (self._settled(),)

    @property
    def exact(self) -> bool:
        """Whether the count is exact."""
        return len(self._settled()) < SMALLEST

    @property
    def limit(self) -> np.uint64:
        """Hashes above this one would change nothing; it falls as hashes come in."""
        return np.uint64(self._hashes[-1]) if len(self._hashes) == SMALLEST else _EVERY

    def update(self, hashes: Hashes) -> None:
        """Take hashes in, best only those up to `limit`; the same value must have the same hash."""
        self._waiting.append(hashes.copy())
        self._count += len(hashes)
        # Sorted rarely: of n rows only some k log(n / k) have hashes up to `limit`.
        if self._count > _WAITING:
            self._settled()

    def _settled(self) -> Hashes:
        if self._waiting:
            both = np.sort(np.concatenate([self._hashes, *self._waiting]))
            first = np.ones(len(both), bool)
            np.not_equal(both[1:], both[:-1], out=first[1:])
            self._hashes = both[first][:SMALLEST]
            self._waiting, self._count = [], 0
        return self._hashes

    def merge(self, other: "Distinct") -> None:
        """Take in what another one has seen."""
        self.update(other._settled())

    def estimate(self) -> int:
        """How many distinct values there are."""
        hashes = self._settled()
        if len(hashes) < SMALLEST:
            return len(hashes)
        return round((SMALLEST - 1) / (float(hashes[-1]) / _SPACE))

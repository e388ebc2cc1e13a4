"""Frequent values: how often each is there, exactly while they are few, and else by a sample.

Knows keys, counts and the values that hashed keys stand for; it does not know how rows are sampled.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayplat.data.profile.kernels import Keys, Numbers, tally
from rayplat.data.profile.kinds import Kind, floats

FEW = 1000
"""Up to so many distinct values all of them are counted."""

_DRAWN = 3
_WAITING = 32_768
_SLOTS = 4096
_ONCE = np.empty(0, np.int64)


class Few:
    """Counts every key while they are few: a table that a kernel fills."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._slots, self._counts = np.zeros(_SLOTS, np.int64), np.zeros(_SLOTS, np.int64)
        self._news = np.empty(FEW, np.int64)
        self._order = np.empty(0, np.int64)
        self._values: list[pa.Array] = []
        self.used = 0

    def update(self, keys: Keys, values: pa.Array, weights: Keys = _ONCE) -> int:
        """Count keys; how many there was room for.

        Args:
            values: those of the keys; kept of new ones where a key is a hash.
            weights: how often each is there; empty: once.
        """
        before = self.used
        done, self.used = tally(
            keys, self._kind.floating, weights, self._slots, self._counts, self._news, before, FEW
        )
        if self.used > before and not self._kind.keyed:
            places = self._news[before : self.used]
            self._values.append(values.take(pa.array(places)))
            self._order = np.concatenate([self._order, keys[places]])
        return int(done)

    def drained(self) -> tuple[Keys, Keys, pa.Array | None]:
        """The keys, their counts and the values of hashed ones, in the same order."""
        there = np.flatnonzero(self._counts)
        keys, counts = self._slots[there], self._counts[there]
        values = None
        if not self._kind.keyed:
            values = pa.concat_arrays(self._values or [pa.array([], self._kind.type)])
            places = np.argsort(self._order)
            values = values.take(pa.array(places[np.searchsorted(self._order, keys, sorter=places)]))
        return keys, counts, values


class Frequent:
    """Counts values; two of them merge into the counts of both.

    Attributes:
        exact: whether every value that was seen is here with its exact count.
    """

    def __init__(self, kind: Kind) -> None:
        self.exact = True
        self._kind = kind
        self._weight = 1.0
        self._parts: list[tuple[Keys, Numbers, pa.Array | None]] = []
        self._waiting = 0

    def update(
        self, keys: Keys, counts: npt.NDArray[Any], values: pa.Array | None, weight: float = 1.0
    ) -> None:
        """Take counts in.

        Args:
            values: of the keys, where these are hashes.
            weight: how many rows each counted one stands for; over 1: a sample was counted.
        """
        self.exact = self.exact and weight == 1.0
        self._weight = max(self._weight, weight)
        self._add(keys, counts * weight, values)

    def merge(self, other: "Frequent") -> None:
        """Take in what another one has counted."""
        self.exact = self.exact and other.exact
        self._weight = max(self._weight, other._weight)
        for part in other._parts:
            self._add(*part)

    def settle(self) -> tuple[Keys, Numbers, pa.Array | None]:
        """The keys with their counts and values, each once; of more than `FEW` the most frequent."""
        if len(self._parts) != 1 or self._waiting:
            keys, first, counts = _summed(
                np.concatenate([_ONCE, *(part[0] for part in self._parts)]),
                np.concatenate([np.empty(0), *(part[1] for part in self._parts)]),
            )
            if len(keys) > FEW:
                # The rare ones are dropped. A value that leads a column is among the first of a sample.
                self.exact = False
                most = np.argpartition(counts, -FEW)[-FEW:]
                keys, counts, first = keys[most], counts[most], first[most]
            values = None
            if not self._kind.keyed:
                held = [part[2] for part in self._parts] or [pa.array([], self._kind.type)]
                values = pa.concat_arrays(held).take(pa.array(first))
            self._parts, self._waiting = [(keys, counts, values)], 0
        return self._parts[0]

    def top(self, most: int) -> list[tuple[Any, int]]:
        """The most frequent values with their counts, the most frequent first.

        Of a sample only those that were drawn three times or more: one that was drawn once leads nothing.
        """
        keys, counts, values = self.settle()
        least = 1.0 if self.exact else _DRAWN * self._weight * (1 - 1e-9)
        # As many as tie with the last one, so that which of them are shown hangs on their values alone.
        bound = max(least, float(np.sort(counts)[-most])) if len(counts) > most else least
        chosen = np.flatnonzero(counts >= bound)
        shown = (
            self._kind.values(keys[chosen]) if values is None else values.take(pa.array(chosen)).to_pylist()
        )
        pairs = list(zip(shown, (round(count) for count in counts[chosen].tolist()), strict=True))
        if self._kind.family not in ("list", "other"):
            pairs.sort(key=lambda pair: pair[0])
        return sorted(pairs, key=lambda pair: -pair[1])[:most]

    def numbers(self) -> tuple[Numbers, Numbers]:
        """The places of every value on its line, rising, and how many rows have each."""
        keys, counts, values = self.settle()
        found = self._kind.numbers(keys) if values is None else floats(values)
        order = np.argsort(found, kind="stable")
        return found[order], counts[order]

    def _add(self, keys: Keys, counts: Numbers, values: pa.Array | None) -> None:
        if len(keys):
            self._parts.append((keys, np.asarray(counts, np.float64), values))
            self._waiting += len(keys)
            if self._waiting > _WAITING:
                self.settle()
                self._waiting = 0


def _summed(keys: Keys, weights: Numbers) -> tuple[Keys, Keys, Numbers]:
    """Each key once, rising, with one of its places and the sum of its weights."""
    # `np.unique` would sort stably to tell the first place, which takes several times longer.
    order = np.argsort(keys)
    ranked = keys[order]
    begins = np.flatnonzero(np.concatenate([ranked[:1] == ranked[:1], ranked[1:] != ranked[:-1]]))
    if not len(begins):
        return keys, order, weights
    return ranked[begins], order[begins], np.add.reduceat(weights[order], begins)

"""Questions in the order of time, with their entities as numbers.

Knows how questions are sorted; it does not know what answers them.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from rayplat.features.instants import Int64s
from rayplat.features.join import kernels, sorting
from rayplat.features.join.arrays import frozen
from rayplat.features.join.keys import Codes, Keys
from rayplat.features.join.turns import in_threads

# Buckets: at most so many, and as many bits of them in the first step; how many squares a question may cost.
_MOST, _COARSE, _UNEVEN = 1 << 20, 10, 64
# So few questions are sorted sooner than a thread begins.
_ALONE = 1 << 16
_ROWS, _SPAN = 1 << 31, 1 << 62


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions, sorted by time.

    Attributes:
        keys: their entities.
        order: which asking row each question is.
        at: their times in microseconds, rising.
        code: their entities.
    """

    keys: Keys
    order: Int64s
    at: Int64s
    code: Codes


def by_time(keys: Keys, at: Int64s) -> Asked:
    """Sort questions.

    Args:
        keys: the entities of the asking rows.
        at: the time of each asking row, in microseconds.
    """
    order, times, codes = _sorted(at, keys.asked)
    return Asked(keys, order, times, codes)


def sorted_rows(time: Int64s) -> Int64s:
    """The rows in the order of their times; rows of equal times as they stand."""
    return _sorted(time, np.zeros(len(time), np.int32))[0]


def _sorted(at: Int64s, code: Codes) -> tuple[Int64s, Int64s, Codes]:
    if kernels.is_rising(frozen(at[:])):
        return np.arange(len(at)), at.copy(), code.copy()
    low, span = int(at.min()), int(at.max()) - int(at.min())
    found = _in_buckets(at, code, low, span) if len(at) < _ROWS and span < _SPAN else None
    if found is not None:
        return found
    order = np.argsort(at, kind="stable")
    return order, at[order], code[order]


def _in_buckets(at: Int64s, code: Codes, low: int, span: int) -> tuple[Int64s, Int64s, Codes] | None:
    """Questions sorted in linear time; None where their times lie too unevenly for that."""
    count = len(at)
    rest = max(span.bit_length() - min(count, _MOST).bit_length(), 0)
    shift = max(span.bit_length() - _COARSE, rest)
    start, pairs = np.zeros((span >> shift) + 3, np.int64), np.empty((count, 2), np.int64)
    sorting.spread(frozen(at[:]), code, low, shift, start, pairs)
    order, times = np.empty(count, np.int64), np.empty(count, np.int64)
    codes = np.empty(count, np.int32)
    even: list[bool] = []

    def settle(first: int, last: int) -> None:
        most, out = _UNEVEN * count, (order, times, codes)
        even.append(bool(sorting.settle(pairs, start, first, last, low, (shift, rest), most, out)))

    buckets = len(start) - 2
    if count < _ALONE:
        settle(0, buckets)
    else:
        half = int(np.searchsorted(start, count // 2))
        in_threads([partial(settle, 0, half), partial(settle, half, buckets)])
    return (order, times, codes) if all(even) else None

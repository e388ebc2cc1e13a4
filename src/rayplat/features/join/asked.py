"""Questions in the order of time, with their entities as numbers.

Knows how questions are sorted; it does not know what answers them.
"""

from dataclasses import dataclass

import numpy as np

from rayplat.features.instants import Int64s
from rayplat.features.join import kernels
from rayplat.features.join.arrays import frozen
from rayplat.features.join.keys import Codes, Keys

# Buckets: at most so many, and one for so many questions; then how many squares a question may cost.
_MOST, _SHARE, _UNEVEN = 1 << 20, 1, 64
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
    """The rows in the order of their times; rows of equal times in any order."""
    return _sorted(time, np.zeros(len(time), np.int32))[0]


def _sorted(at: Int64s, code: Codes) -> tuple[Int64s, Int64s, Codes]:
    if kernels.is_rising(frozen(at[:])):
        return np.arange(len(at)), at.copy(), code.copy()
    order, times, codes = (
        np.empty(len(at), np.int64),
        np.empty(len(at), np.int64),
        np.empty(len(at), np.int32),
    )
    low, span = int(at.min()), int(at.max()) - int(at.min())
    shift = max(span.bit_length() - min(len(at) // _SHARE, _MOST).bit_length(), 0)
    start, pairs = np.zeros((span >> shift) + 3, np.int64), np.empty((len(at), 2), np.int64)
    packs = len(at) < _ROWS and span < _SPAN
    if packs and kernels.spread(frozen(at[:]), code, low, shift, _UNEVEN * len(at), start, pairs):
        kernels.settle(pairs, order, times, codes)
        return order, times, codes
    order = np.argsort(at, kind="stable")
    return order, at[order], code[order]

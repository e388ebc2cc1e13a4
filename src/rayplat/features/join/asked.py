"""Questions in the order of time, with their entities as numbers.

Knows how questions are sorted; it does not know what answers them.
"""

from dataclasses import dataclass

import numpy as np

from rayplat.features.instants import Int64s
from rayplat.features.join import kernels
from rayplat.features.join.arrays import frozen
from rayplat.features.join.keys import Codes, Keys

_BITS = 63
_COARSEST = 8


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
    order, mask = _nearly_sorted(at)
    times, codes = np.empty(len(at), np.int64), np.empty(len(at), np.int32)
    kernels.settle(order, mask, frozen(at[:]), code, times, codes)
    return order, times, codes


def _nearly_sorted(at: Int64s) -> tuple[Int64s, int]:
    """Rows by time but for its lowest bits, and where the row's bits are: such integers sort fast."""
    if len(at) == 0:
        return np.empty(0, np.int64), 0
    low = int(at.min())
    row_bits = len(at).bit_length()
    spare = max((int(at.max()) - low).bit_length() + row_bits - _BITS, 0)
    if spare > _COARSEST:
        return np.argsort(at), -1
    packed = np.empty(len(at), np.int64)
    kernels.pack(frozen(at[:]), low, spare, row_bits, packed)
    packed.sort()
    return packed, (1 << row_bits) - 1

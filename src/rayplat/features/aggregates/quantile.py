"""Quantiles within 1 %: values fall into bins whose width is a 64th of a power of two.

Knows the bins and the rank rule; it does not know where the values come from.

As in DDSketch (Masson et al., VLDB 2019) a bin is so narrow relative to its values that its middle stands
for all of them; the bins follow the bits of a double (its exponent and the 6 highest bits of its
mantissa) instead of a logarithm, so that every machine and every path agrees on them. The relative error is
at most 1/128, 0.8 %, of normal doubles; subnormal ones count as 0.

The quantile q of n values is the one at rank floor(q * (n - 1)) of 0 to n - 1. NaN is left out, unless
there is nothing else.
"""

import math
import struct

import numpy as np
import numpy.typing as npt

from rayplat.features.aggregates.values import bits

_SHIFT = 46
_HALF = 1 << (_SHIFT - 1)
_INFINITE = 0x7FF0_0000_0000_0000 >> _SHIFT
_NORMAL = 0x0010_0000_0000_0000 >> _SHIFT
_SIGNLESS = 0x7FFF_FFFF_FFFF_FFFF


def bin_of(value: float) -> int:
    """The bin of a value that is not NaN; greater values have greater bins, or the same."""
    word: int = struct.unpack("<Q", struct.pack("<d", abs(value)))[0]
    size = word >> _SHIFT
    if size < _NORMAL:
        return 0
    return -size if value < 0 else size


def bins(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """`bin_of` of each value."""
    size = ((bits(values) & np.uint64(_SIGNLESS)) >> np.uint64(_SHIFT)).astype(np.int64)
    size[size < _NORMAL] = 0
    return np.where(values < 0, -size, size)


def bin_value(index: int) -> float:
    """The value that stands for a bin: its middle."""
    size = abs(index)
    if size in (0, _INFINITE):
        return math.copysign(math.inf, index) if size else 0.0
    middle: float = struct.unpack("<d", struct.pack("<Q", (size << _SHIFT) + _HALF))[0]
    return -middle if index < 0 else middle


def bin_values(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """`bin_value` of each bin."""
    size = np.abs(indices)
    middle = ((size << _SHIFT) + _HALF).view(np.float64)
    middle = np.where(size == _INFINITE, np.inf, np.where(size == 0, 0.0, middle))
    return np.where(indices < 0, -middle, middle)


def rank(q: float, count: int) -> int:
    """The rank, from 0, of the value that is the quantile."""
    return math.floor(q * (count - 1))

"""How many distinct values there are: the k least hashes of them (KMV).

Knows a fixed 64-bit hash and the estimate; it does not know where the values come from.

With at most K distinct values the count is exact. Beyond, the K-th least of n hashes that fill [0, 1)
evenly is about K / n, and (K - 1) / (the K-th least) estimates n without bias, with a standard error of
1 / sqrt(K - 2), 3.1 % (Bar-Yossef et al., Counting Distinct Elements in a Data Stream, 2002; Beyer et al.,
On Synopses for Distinct-Value Estimation, 2007). The hash is the finaliser of SplitMix64 (Steele et al.,
Fast Splittable Pseudorandom Number Generators, 2014) of a number's 64 bits; of a text, 8 bytes of BLAKE2b.
"""

import hashlib
import struct
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from rayplat.features.aggregates.values import Value, bits

K = 1024
_WHOLE = 2**64
_MASK = _WHOLE - 1
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def hash_of(value: Value) -> int:
    """The 64-bit hash of a value in its one form (see `values.normal`)."""
    if isinstance(value, str):
        return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")
    word = struct.unpack("<Q", struct.pack("<d", value))[0] if isinstance(value, float) else value
    word = (word + _STEP) & _MASK
    word = ((word ^ (word >> 30)) * _FIRST) & _MASK
    word = ((word ^ (word >> 27)) * _SECOND) & _MASK
    return word ^ (word >> 31)


def hashes(values: pl.Series) -> npt.NDArray[np.uint64]:
    """`hash_of` of each value; the series has no nulls and is in its one form."""
    if values.dtype == pl.String:
        distinct = values.unique()
        table = pl.Series([hash_of(text) for text in distinct], dtype=pl.UInt64)
        return values.replace_strict(distinct, table, return_dtype=pl.UInt64).to_numpy()
    word = bits(values.to_numpy()) + np.uint64(_STEP)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(_FIRST)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(_SECOND)
    return word ^ (word >> np.uint64(31))


def least(found: Iterable[int]) -> list[int]:
    """The K least distinct hashes, rising."""
    return sorted(set(found))[:K]


def estimate(kept: int, greatest: int) -> int:
    """How many distinct values there are.

    Args:
        kept: how many least hashes are kept, at most K; exact below K, and then the answer.
        greatest: the greatest of them.
    """
    if kept < K:
        return kept
    return round((K - 1) * _WHOLE / max(greatest, 1))

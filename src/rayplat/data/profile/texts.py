"""Texts and bytes as keys: a kernel over Arrow's offsets and data, without a string object.

Knows how bytes are hashed and characters counted; it does not know columns or sketches.
"""

import numpy as np
import numpy.typing as npt

from rayplat.core.compiled import compiled
from rayplat.data.profile.kernels import Keys, mix

Bytes = npt.NDArray[np.uint8]

_WORD = 8
_HIGH = 0x8080808080808080


@compiled
def measured(offsets: Keys, data: Bytes, characters: bool, keys: Keys, lengths: Keys) -> None:
    """The hash and the length of each text.

    A text is taken eight bytes at a time, each word multiplied in (the scheme of FNV-1a on words, Fowler,
    Noll and Vo), with the finaliser of MurmurHash3 at the end.

    Args:
        offsets: where each begins in `data`, and where the last one ends.
        characters: whether a length is in characters of UTF-8, else in bytes.
        keys, lengths: of as many places as there are texts; are written.
    """
    for i in range(len(keys)):
        begin, end = offsets[i], offsets[i + 1]
        found = np.uint64(end - begin) * np.uint64(0x9E3779B97F4A7C15)
        high = np.uint64(0)
        at = begin
        while at < end:
            word = np.uint64(0)
            if at + _WORD <= end:
                for j in range(_WORD):
                    word |= np.uint64(data[at + j]) << np.uint64(8 * j)
            else:
                for j in range(end - at):
                    word |= np.uint64(data[at + j]) << np.uint64(8 * j)
            high |= word
            found = (found ^ word) * np.uint64(0x9FB21C651E98DF25)
            found ^= found >> np.uint64(32)
            at += _WORD
        keys[i] = np.int64(mix(found))
        lengths[i] = end - begin
        if characters and high & np.uint64(_HIGH):
            for at in range(begin, end):
                lengths[i] -= (data[at] & 0xC0) == 0x80

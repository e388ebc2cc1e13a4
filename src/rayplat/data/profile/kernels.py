"""Kernels of the profile: one pass over the values of a batch while they are in the cache.

Knows columns as int64 keys (integers as they are, floats as their bits, texts as a hash); it does not know
what a column is called, how its keys came to be, or what becomes of what it finds.

Sums run in 64 lanes side by side, added up at the end of each block of 1,024 values: at the width of the
machine, and in one fixed order.
"""

import numpy as np
import numpy.typing as npt

from rayplat.core.compiled import compiled

Keys = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.float64]

BLOCK = 1024
"""Values of a block: its copies stay in the first cache."""
NAN_KEY = 0x7FF8000000000000
"""The key of every NaN."""

_LANES = 64
_OFTEN = 2**58
_LEAST = -(2**63)
_GREATEST = 2**63 - 1
_INFINITY = 0x7FF0000000000000


@compiled
def mix(key: int | np.uint64) -> np.uint64:
    """Spread a key over 64 bits, one to one (the finaliser of MurmurHash3, Appleby 2011)."""
    found = np.uint64(key)
    found ^= found >> np.uint64(33)
    found *= np.uint64(0xFF51AFD7ED558CCD)
    found ^= found >> np.uint64(33)
    found *= np.uint64(0xC4CEB9FE1A85EC53)
    found ^= found >> np.uint64(33)
    return found


@compiled
def hashed(keys: Keys) -> Hashes:
    """The hash of each key."""
    found = np.empty(len(keys), np.uint64)
    for i in range(len(keys)):
        found[i] = mix(keys[i])
    return found


@compiled
def _hash_lanes(keys: Keys, size: int, lanes: Hashes, least: Hashes) -> None:
    """Write the hashes to `lanes`, and to `least[i]` the least of those whose place is i modulo `_LANES`."""
    for i in range(size):
        lanes[i] = mix(keys[i])
    for i in range(size, BLOCK):
        lanes[i] = ~np.uint64(0)
    half = BLOCK // 2
    for i in range(half):
        least[i] = min(lanes[i], lanes[half + i])
    width = half // 2
    while width >= _LANES:
        for i in range(width):
            least[i] = min(least[i], least[width + i])
        width //= 2


@compiled
def _low_hashes(lanes: Hashes, size: int, limit: np.uint64, recent: Hashes, out: Hashes) -> int:
    """Write the hashes of a lane up to `limit` to `out`, but those in `recent`; how many they are."""
    mask = np.uint64(len(recent) - 1)
    found = 0
    if limit > _OFTEN:
        # Kept by moving on: whether one is wanted cannot be predicted.
        for i in range(0, size, _LANES):
            place = np.int64(lanes[i] & mask)
            wanted = (lanes[i] <= limit) & (recent[place] != lanes[i])
            recent[place] = lanes[i] if wanted else recent[place]
            out[found] = lanes[i]
            found += wanted
        return found
    for i in range(0, size, _LANES):
        if lanes[i] <= limit and recent[np.int64(lanes[i] & mask)] != lanes[i]:
            recent[np.int64(lanes[i] & mask)] = lanes[i]
            out[found] = lanes[i]
            found += 1
    return found


@compiled
def _copied(part: Keys, floating: bool, keys: Keys, values: Numbers) -> tuple[np.int64, np.int64]:
    """Copy a block, and its least and greatest place in the order of its kind."""
    lowest, highest = np.int64(_GREATEST), np.int64(_LEAST)
    if floating:
        for i in range(len(part)):
            key = np.int64(0 if part[i] == _LEAST else part[i])  # -0.0 is 0.0
            keys[i] = key
            order = key ^ ((key >> 63) & _GREATEST)
            lowest = order if order < lowest else lowest
            highest = order if order > highest else highest
    else:
        for i in range(len(part)):
            key = part[i]
            keys[i] = key
            values[i] = np.float64(key)
            lowest = key if key < lowest else lowest
            highest = key if key > highest else highest
    return lowest, highest


@compiled
def _spread(values: Numbers, middle: float, sums: Numbers, squares: Numbers) -> tuple[float, float]:
    """The mean of a block and the sum of squared differences from it; `middle` is near that mean."""
    sums[:] = 0.0
    squares[:] = 0.0
    whole = len(values) - len(values) % _LANES
    for row in range(0, whole, _LANES):
        for lane in range(_LANES):
            apart = values[row + lane] - middle
            sums[lane] += apart
            squares[lane] += apart * apart
    for i in range(whole, len(values)):
        apart = values[i] - middle
        sums[i - whole] += apart
        squares[i - whole] += apart * apart
    total = sums.sum()
    return middle + total / len(values), max(squares.sum() - total * total / len(values), 0.0)


@compiled
def scan(  # noqa: PLR0917  # a kernel
    bits: Keys,
    floating: bool,
    limit: np.uint64,
    recent: Hashes,
    step: int,
    stride: int,
    seed: int,
    low: Hashes,
    drawn: Numbers,
    places: Keys,
) -> tuple[np.int64, np.int64, float, float, int, int, int]:
    """Look at each value of a batch once.

    Args:
        bits: the keys; `floating`: whether they are the bits of floats.
        limit: hashes up to here are wanted in `low`, which has room for one more than all of them.
        recent: hashes that were written before, at places that depend on them: a value that comes again and
            again is written now and then only (a power of two of places).
        step: a value of each so many is drawn (a power of two, at most `BLOCK`) into `drawn`; the last
            len(bits) % step values are left out.
        stride: a place of each so many is drawn into `places`, one of the last incomplete ones too.
        seed: decides which ones.

    Returns:
        The least and the greatest value in the order of floats (see `ordered`), the mean, the sum of
        squared differences from it, and how many of `low`, `drawn` and `places` were written.
    """
    keys = np.empty(BLOCK, np.int64)
    values = keys.view(np.float64) if floating else np.empty(BLOCK, np.float64)
    sums, spread = np.empty(_LANES, np.float64), np.empty(_LANES, np.float64)
    lanes, least = np.empty(BLOCK, np.uint64), np.empty(BLOCK // 2, np.uint64)
    lowest, highest = np.int64(_GREATEST), np.int64(_LEAST)
    mean, squares = 0.0, 0.0
    lows, draws, put = 0, 0, 0
    for first in range(0, len(bits), BLOCK):
        size = min(BLOCK, len(bits) - first)
        under, over = _copied(bits[first : first + size], floating, keys, values)
        lowest, highest = min(lowest, under), max(highest, over)
        near = mean if first else values[:size].sum() / size
        middle, inner = _spread(values[:size], near, sums, spread)
        # Chan et al. (1979), section 3.
        apart = middle - mean
        squares += inner + apart * apart * first * size / (first + size)
        mean += apart * size / (first + size)
        _hash_lanes(keys, size, lanes, least)
        for lane in range(_LANES):
            if least[lane] <= limit:
                lows += _low_hashes(lanes[lane:], size - lane, limit, recent, low[lows:])
        for stratum in range(0, size - step + 1, step):
            drawn[draws] = values[stratum + np.int64(mix(seed + first + stratum) & np.uint64(step - 1))]
            draws += 1
    for stratum in range(0, len(bits), stride):
        wide = np.uint64(min(stride, len(bits) - stratum))
        places[put] = stratum + np.int64((mix(seed ^ stratum) >> np.uint64(32)) * wide >> np.uint64(32))
        put += 1
    return lowest, highest, mean, squares, lows, draws, put


def ordered(order: np.int64) -> float:
    """The float at a place of the order in which `scan` compares floats; NaN lies outside infinity."""
    key = order ^ ((order >> 63) & np.int64(_GREATEST))
    return float(key.view(np.float64))


def has_nan(lowest: np.int64, highest: np.int64) -> bool:
    """Whether values between these places hold a NaN."""
    return bool(highest > _INFINITY or lowest < -_INFINITY - 1)


@compiled
def tally(  # noqa: PLR0917  # a kernel
    keys: Keys, floating: bool, weights: Keys, slots: Keys, counts: Keys, news: Keys, used: int, most: int
) -> tuple[int, int]:
    """Count keys in a table with open addresses.

    Args:
        weights: how often each key is there; empty: once.
        slots, counts: the table (a power of two of places); a count of 0 is a free place.
        news: where the first place of each new key is written, by its number.
        used: how many keys the table has; it takes `most`.

    Returns:
        How many of the keys were counted (all, or up to the first without room), and of the table.
    """
    mask = np.uint64(len(slots) - 1)
    for i in range(len(keys)):
        key = keys[i]
        if floating:
            if key == _LEAST:
                key = np.int64(0)
            elif (key & _GREATEST) > _INFINITY:
                key = np.int64(NAN_KEY)
        place = np.int64(np.uint64(key) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40) & mask)
        while counts[place] and slots[place] != key:
            place = np.int64(np.uint64(place + 1) & mask)
        if not counts[place]:
            if used == most:
                return i, used
            slots[place] = key
            news[used] = i
            used += 1
        counts[place] += weights[i] if len(weights) else 1
    return len(keys), used


@compiled
def counted(indices: npt.NDArray[np.int32], counts: Keys) -> None:
    """Add how often each index is there to `counts`."""
    for index in indices:
        counts[index] += 1

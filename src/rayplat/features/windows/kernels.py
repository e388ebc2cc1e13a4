"""Loops over windows, compiled: bounds, sums in digits, extremes, ranks.

Knows sorted arrays of numbers; it does not know features, nulls or types. See `core.compiled`.

Shapes: n rows of a stream sorted by entity and time, q questions, w windows. Positions are those of rows.
"""

import math

import numpy as np

from rayplat.core.compiled import compiled
from rayplat.features.instants import Int64s

BLOCK = 64


@compiled
def settled_by(start: Int64s, known: Int64s) -> Int64s:
    """For each row the time from which it and all rows of its entity before it are known."""
    out = np.empty(len(known), np.int64)
    for entity in range(len(start) - 1):
        latest = np.iinfo(np.int64).min
        for i in range(start[entity], start[entity + 1]):
            latest = max(latest, known[i])
            out[i] = latest
    return out


@compiled
def _after(times: Int64s, low: int, high: int, time: int) -> int:
    """The first position in [low, high) whose time is later; `high` where there is none."""
    while low < high:
        middle = (low + high) >> 1
        if times[middle] <= time:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def bounds(  # noqa: PLR0917 - compiled: no keywords
    start: Int64s,
    event: Int64s,
    settled: Int64s,
    code: Int64s,
    at: Int64s,
    length: Int64s,
    every: Int64s,
    low: Int64s,
    high: Int64s,
    sure: Int64s,
) -> None:
    """Where the rows of each window stand, and up to where all of them are known.

    Args:
        settled: see `settled_by`; empty where no row is late.
        every: 0 for a sliding window.
        low, high: (q, w), written: the rows in [low, high) are in the window's bounds.
        sure: (q), written: rows before are known at the time of the question.
    """
    for q in range(len(at)):
        begin, end = start[code[q]], start[code[q] + 1]
        now = _after(event, begin, end, at[q])
        for w in range(len(length)):
            if every[w] == 0:
                high[q, w] = now
                low[q, w] = _after(event, begin, now, at[q] - length[w])
            else:
                last = at[q] // every[w] * every[w] - 1
                high[q, w] = _after(event, begin, now, last)
                low[q, w] = _after(event, begin, now, last - length[w])
        sure[q] = _after(settled, begin, now, at[q]) if len(settled) else now


@compiled
def extremes(  # noqa: PLR0917 - compiled: no keywords
    lows: Int64s, highs: Int64s, levels: Int64s, low: int, high: int, least: int, greatest: int
) -> tuple[int, int]:
    """The extremes of rows [low, high) and of those given; blocks of blocks stand for their rows."""
    level = 0
    while low < high:
        first, last = (low + BLOCK - 1) // BLOCK, high // BLOCK
        base = levels[level]
        if first >= last or level == len(levels) - 1:
            first, last = high, high
            edge = high
        else:
            edge = first * BLOCK
        for i in range(base + low, base + edge):
            least = min(least, lows[i])
            greatest = max(greatest, highs[i])
        if edge == high:
            break
        for i in range(base + last * BLOCK, base + high):
            least = min(least, lows[i])
            greatest = max(greatest, highs[i])
        low, high = first, last
        level += 1
    return least, greatest


@compiled
def _back(cursor: int, end: int, at: int, known: Int64s, block_known: Int64s) -> int:
    """From where on the rows before `cursor` are known: a block's or a row's begin; -1: the row is not."""
    stop = cursor - BLOCK
    if cursor % BLOCK == 0 and stop >= end and block_known[cursor // BLOCK - 1] <= at:
        return stop
    return cursor - 1 if known[cursor - 1] <= at else -1


@compiled
def reduce(  # noqa: PLR0917 - compiled: one loop, no keywords
    low: Int64s,
    high: Int64s,
    sure: Int64s,
    at: Int64s,
    known: Int64s,
    block_known: Int64s,
    prefix: Int64s,
    lows: Int64s,
    highs: Int64s,
    levels: Int64s,
    found: Int64s,
    sums: Int64s,
) -> None:
    """Count, add and compare the known rows of each window.

    A window that holds the one before it, up to the same row, goes on where that one ended.

    Args:
        block_known: when all rows of a block of `BLOCK` are known.
        prefix: (n + 1, d): sums of the d numbers of the rows before each row.
        lows, highs: the rows as integers to compare, then their blocks, and so on; `levels`: where each
            level begins. Empty: not asked for.
        found: (q, w, 5), written: count, least, greatest, first and last position (-1: none).
        sums: (q, w, d), written.
    """
    digits = prefix.shape[1]
    total = np.zeros(digits, np.int64)
    compare = len(levels) > 0
    for q in range(len(at)):
        cursor, top = -1, -1
        count, first, last = 0, -1, -1
        least, greatest = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        for w in range(low.shape[1]):
            end = low[q, w]
            if high[q, w] != top or end > cursor:
                cursor, top = high[q, w], high[q, w]
                count, first, last = 0, -1, -1
                least, greatest = np.iinfo(np.int64).max, np.iinfo(np.int64).min
                total[:] = 0
            while cursor > end:
                stop = end if cursor <= sure[q] else _back(cursor, end, at[q], known, block_known)
                if stop < 0:
                    cursor -= 1
                    continue
                count += cursor - stop
                first = stop
                last = max(last, cursor - 1)
                for d in range(digits):
                    total[d] += prefix[cursor, d] - prefix[stop, d]
                if compare:
                    least, greatest = extremes(lows, highs, levels, stop, cursor, least, greatest)
                cursor = stop
            found[q, w, 0], found[q, w, 1], found[q, w, 2] = count, least, greatest
            found[q, w, 3], found[q, w, 4] = first, last
            for d in range(digits):
                sums[q, w, d] = total[d]


@compiled
def select(  # noqa: PLR0917 - compiled: no keywords
    low: Int64s,
    high: Int64s,
    at: Int64s,
    known: Int64s,
    keys: Int64s,
    rank: float,
    distinct: int,
    out: Int64s,
) -> None:
    """Sort the known keys of each window and take one of them.

    Args:
        low, high: (q).
        keys: (n); the greatest integer is no key.
        rank: 0 to 1: the key with that rank; negative: the greatest of the `distinct` least ones.
        out: (q, 2), written: how many keys (or least distinct ones) there are, and the key.
    """
    none = np.iinfo(np.int64).max
    for q in range(len(at)):
        held = np.empty(max(high[q] - low[q], 0), np.int64)
        size = 0
        for i in range(low[q], high[q]):
            if known[i] <= at[q] and keys[i] != none:
                held[size] = keys[i]
                size += 1
        held = held[:size]
        held.sort()
        key = none
        if rank >= 0.0:
            if size:
                key = held[math.floor(rank * (size - 1))]
        else:
            count = 0
            for i in range(size):
                if count < distinct and (i == 0 or held[i] != key):
                    key = held[i]
                    count += 1
            size = count
        out[q, 0], out[q, 1] = size, key

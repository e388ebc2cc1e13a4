"""Windows of plain numbers in one pass, compiled: two digits hold every sum, and rows are known in time.

Knows one block of entities at a time and what makes it plain; what is not is refused, and `parts` reduces
it. See `core.compiled`.

A number is a whole number times 2**base, and its running totals are two machine words: the lowest `width`
bits of each number add up in the first and the rest in the second, so that a window's sum is one difference
and is rounded once at its end. The bits are those of `digits`.
"""

import math

import numpy as np

from rayplat.core.compiled import compiled, inlined
from rayplat.features.instants import Int64s
from rayplat.features.windows import digits, kernels
from rayplat.features.windows.digits import Doubles
from rayplat.features.windows.scatter import Flags

SUM, MEAN, LEAST, GREATEST, COUNT, FIRST, LAST = range(7)

WIDEST = 52
"""The most bits of a digit."""

_UNKNOWN = 256
_MANTISSA = 52
_FRACTION = (1 << _MANTISSA) - 1
_EXPONENT = 0x7FF
_BIAS = 1075
_LEAST_BASE, _GREATEST_BASE = -800, 700
_SIGNLESS = 0x7FFF_FFFF_FFFF_FFFF
_NO_LEAST, _NO_GREATEST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
_NOTHING = (0, -1, -1, 0, 0, _NO_LEAST, _NO_GREATEST)
"""What a window without a row comes to: number, first, last, lower and upper digit, least, greatest."""

Rows = tuple[Int64s, Int64s, Int64s, Int64s, Int64s]
Ends = tuple[Int64s, Int64s, Int64s]
Scales = tuple[int, int]
Totals = tuple[int, int, int, int, int, int, int]


@compiled
def exponents(word: Int64s) -> tuple[int, int]:
    """The least and the greatest exponent of doubles, as in their bits; zeros have none."""
    lowest, highest = _EXPONENT, 0
    for bits in word:
        if bits & _SIGNLESS:
            power = max((bits >> _MANTISSA) & _EXPONENT, 1)
            lowest = min(lowest, power)
            highest = max(highest, power)
    return lowest, highest


@compiled
def running(word: Int64s, real: bool, width: int, prefix: Int64s) -> tuple[bool, int]:
    """Write running totals of numbers as two digits.

    Args:
        word: integers, or the bits of doubles (`real`).
        width: bits of the lower digit: so few that the digits of all rows of an entity add up in 62 bits.
        prefix: (n + 1, 2), written: lower and upper digit.

    Returns:
        whether two digits hold all numbers, and the base.
    """
    low = high = 0
    prefix[0, 0] = prefix[0, 1] = 0
    if not real:
        bound = 1 << (width + 2)
        for i in range(len(word)):
            if not -bound < word[i] < bound:
                return False, 0
            low += word[i]
            prefix[i + 1, 0] = low
            prefix[i + 1, 1] = 0
        return True, 0
    lowest, highest = exponents(word)
    if highest == 0:
        lowest = highest = _BIAS
    base = lowest - _BIAS
    if highest == _EXPONENT or highest - lowest + _MANTISSA + 1 > 2 * width:
        return False, 0
    if not _LEAST_BASE <= base <= _GREATEST_BASE:
        return False, 0
    mask = (1 << width) - 1
    for i in range(len(word)):
        power = (word[i] >> _MANTISSA) & _EXPONENT
        if power:
            whole, shift = word[i] & _FRACTION | (1 << _MANTISSA), power - lowest
            lower = (whole << shift) & mask
            upper = whole >> (width - shift) if shift <= width else whole << (shift - width)
            sign = 1 - 2 * (word[i] < 0)
            low += sign * lower
            high += sign * upper
        prefix[i + 1, 0] = low
        prefix[i + 1, 1] = high
    return True, base


@compiled
def _after(times: Int64s, low: int, high: int, time: int) -> int:
    """As `kernels._after`, without branches that a processor has to guess."""
    size = high - low
    while size > 1:
        half = size >> 1
        low += half * (times[low + half - 1] <= time)
        size -= half
    if size == 1 and times[low] <= time:
        low += 1
    return low


@compiled
def _exactly(high: int, low: int, width: int, base: int, divisor: int) -> float:
    """As `digits.rounded`, of one sum."""
    one, by, out = np.empty((1, 2), np.int64), np.empty(1, np.int64), np.empty(1, np.float64)
    one[0, 0], one[0, 1], by[0] = low, high, divisor
    digits.rounded(one, width, base, by, out)
    return float(out[0])


@inlined
def _one_by_one(rows: Rows, span: tuple[int, int, int], totals: Int64s, ends: Ends, so_far: Totals) -> Totals:
    """Take the rows of `span` (to, from, the time asked at) that were known then, the latest first."""
    known = rows[3]
    lows, highs, levels = ends
    number, first, last, low, high, least, greatest = so_far
    for cursor in range(span[0] - 1, span[1] - 1, -1):
        if known[cursor] <= span[2]:
            number += 1
            low += totals[cursor + 1, 0] - totals[cursor, 0]
            high += totals[cursor + 1, 1] - totals[cursor, 1]
            first, last = cursor, max(last, cursor)
            if len(levels):
                least, greatest = min(least, lows[cursor]), max(greatest, highs[cursor])
    return number, first, last, low, high, least, greatest


@inlined
def _at_once(stop: int, cursor: int, totals: Int64s, ends: Ends, so_far: Totals) -> Totals:
    """Take the rows from `stop` to `cursor`, all of which were known."""
    lows, highs, levels = ends
    number, _first, last, low, high, least, greatest = so_far
    number += cursor - stop
    low += totals[cursor, 0] - totals[stop, 0]
    high += totals[cursor, 1] - totals[stop, 1]
    last = max(last, cursor - 1)
    if len(levels):
        least, greatest = kernels.extremes(lows, highs, levels, stop, cursor, least, greatest)
    return number, stop, last, low, high, least, greatest


@inlined
def _value(kind: int, row: Int64s, real: bool, so_far: Totals) -> int:
    """What an aggregate comes to, as an integer or as the bits of a double; sums of doubles are apart."""
    number, first, last, low, _high, least, greatest = so_far
    if kind == COUNT or number == 0:
        return number
    if kind == SUM:
        return low
    if kind <= GREATEST:
        key = least if kind == LEAST else greatest
        return key ^ ((key >> 63) & _SIGNLESS) if real else key
    return int(row[first if kind == FIRST else last])


@compiled
def answer(  # noqa: PLR0917 - one loop; compiled: no keywords
    rows: Rows,
    asked: tuple[Int64s, int, Int64s],
    spans: tuple[Int64s, Int64s],
    totals: Int64s,
    scales: Scales,
    real: bool,
    ends: Ends,
    wanted: Int64s,
    out: tuple[Int64s, Doubles, Flags],
) -> bool:
    """Answer the questions about a block; False, and void, where too many rows were not known in time.

    Args:
        rows: start, event and row (see `blocks.Block`), known of each, settled (see `kernels.settled_by`).
        asked: the entity of each question, the first entity of the block, the time of each question.
        spans: length and every of each window, in the order of `streams.Group.spans`.
        totals, scales, real: see `running`: prefix; width and base. `real` also for extremes of doubles.
        ends: lows, highs, levels: see `kernels.reduce`; no levels: not asked for.
        wanted: (f, 3): window, aggregate and column of each feature, rising by window.
        out: values (q, columns); the same memory as doubles; where there is a value. Written.
    """
    (start, event, row, _known, settled), (code, first_code, at) = rows, asked
    (length, every), (found, reals, some), (width, base) = spans, out, scales
    unit, scale = math.ldexp(1.0, int(width)), math.ldexp(1.0, int(base))
    for q in range(len(at)):
        begin, end = start[code[q] - first_code], start[code[q] - first_code + 1]
        now = _after(event, begin, end, at[q])
        sure = _after(settled, begin, now, at[q]) if len(settled) else now
        window, cursor, top, so_far = -1, -1, -1, _NOTHING
        for f in range(len(wanted)):
            if wanted[f, 0] != window:
                window = wanted[f, 0]
                until, edge = at[q], now
                if every[window]:
                    until = at[q] // every[window] * every[window] - 1
                    edge = _after(event, begin, now, until)
                stop = _after(event, begin, edge, until - length[window])
                if edge != top or stop > cursor:
                    # This window does not hold the one before it up to the same row: begin anew.
                    cursor, top, so_far = edge, edge, _NOTHING
                middle = max(stop, sure)
                if cursor - middle > _UNKNOWN:
                    return False
                if cursor > middle:
                    so_far = _one_by_one(rows, (cursor, middle, at[q]), totals, ends, so_far)
                    cursor = middle
                if cursor > stop:
                    so_far = _at_once(stop, cursor, totals, ends, so_far)
                    cursor = stop
            kind, column, number = wanted[f, 1], wanted[f, 2], so_far[0]
            some[q, column] = number > 0
            if number > 0 and (kind == MEAN or (kind == SUM and real)):
                over = number if kind == MEAN else 1
                low, high = so_far[3], so_far[4]
                certain, value = digits.quickly(high, low, width, unit, over)
                reals[q, column] = value * scale if certain else _exactly(high, low, width, base, over)
            else:
                found[q, column] = _value(kind, row, real, so_far)
    return True

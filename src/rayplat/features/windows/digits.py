"""Exact sums as digits: numbers split in digits that add up in machine words, and rounded once at the end.

Knows integers in words; it does not know windows. Compiled, see `core.compiled`.

A number of a stream is a whole number times 2**base, written in signed digits of `width` bits. Digits are
narrow enough that those of all rows of an entity add up in 64 bits without carries, so sums of rows are
differences of running totals, which may wrap around. `aggregates.exact` gives the same bits by Python's
integers.
"""

import math

import numpy as np
import numpy.typing as npt

from rayplat.core.compiled import compiled
from rayplat.features.instants import Int64s

Doubles = npt.NDArray[np.float64]

_BITS = 30
_BASE_MASK = (1 << _BITS) - 1
_THIRD = 21
_THIRD_MASK = (1 << _THIRD) - 1
_DIRECT = 1 << 58
_WHOLE = 1 << 53
_LEAST = -(1 << 63)


@compiled
def split(values: Doubles, mantissa: Int64s, exponent: Int64s) -> tuple[int, int]:
    """Write doubles as odd mantissa * 2**exponent, 0 where not finite.

    Returns:
        the least exponent, and the least power of two that is over all sizes; (0, 0) without any.
    """
    lowest, highest = 1 << 20, -(1 << 20)
    for i in range(len(values)):
        mantissa[i] = exponent[i] = 0
        if values[i] != 0.0 and math.isfinite(values[i]):
            fraction, power = math.frexp(values[i])
            whole = int(fraction * 9007199254740992.0)
            zeros = math.frexp(float(whole & -whole))[1] - 1
            mantissa[i] = whole >> zeros
            exponent[i] = power - 53 + zeros
            lowest = min(lowest, exponent[i])
            highest = max(highest, power)
    return (lowest, highest) if lowest <= highest else (0, 0)


@compiled
def _put(out: Int64s, piece: int, shift: int, width: int) -> None:
    """Add piece * 2**shift to digits; |piece| < 2**62."""
    sign = -1 if piece < 0 else 1
    piece *= sign
    digit, offset = shift // width, shift % width
    while piece:
        room = width - offset
        out[digit] += sign * ((piece & ((1 << room) - 1)) << offset)
        piece >>= room
        digit += 1
        offset = 0


@compiled
def running(  # noqa: PLR0917 - compiled: no keywords
    mantissa: Int64s, exponent: Int64s, base: int, width: int, first: int, second: int, prefix: Int64s
) -> None:
    """Write the running totals of the digits of numbers, and of their squares.

    Args:
        first, second: how many digits numbers and squares have; 0: not asked for.
        prefix: (n + 1, first + second or more), written.
    """
    row = np.zeros(first + second, np.int64)
    sums, squares = row[:first], row[first:]
    for i in range(len(mantissa)):
        row[:] = 0
        sign, whole, shift = 1, mantissa[i], exponent[i] - base
        if _LEAST < whole < 0:
            sign, whole = -1, -whole
        high = whole >> (2 * _THIRD)
        middle, low = (whole >> _THIRD) & _THIRD_MASK, whole & _THIRD_MASK
        if whole and first:
            if 0 < whole < _DIRECT:
                _put(sums, sign * whole, shift, width)
            else:
                _put(sums, sign * low, shift, width)
                _put(sums, sign * middle, shift + _THIRD, width)
                _put(sums, sign * high, shift + 2 * _THIRD, width)
        if whole and second:
            shift *= 2
            _put(squares, low * low, shift, width)
            _put(squares, 2 * middle * low, shift + _THIRD, width)
            _put(squares, 2 * high * low + middle * middle, shift + 2 * _THIRD, width)
            _put(squares, 2 * high * middle, shift + 3 * _THIRD, width)
            _put(squares, high * high, shift + 4 * _THIRD, width)
        for d in range(first + second):
            prefix[i + 1, d] = prefix[i, d] + row[d]


@compiled
def _words(digits: Int64s, width: int, words: Int64s, begin: int) -> int:
    """Write the size of a number from digits into words of 30 bits from `begin` on; give its sign."""
    sign = 1
    while True:
        words[:] = 0
        carry, bit = 0, begin * _BITS
        for i in range(len(digits) + 1):
            part = carry
            if i < len(digits):
                part += sign * digits[i]
                carry = part >> width
                part &= (1 << width) - 1
            elif part < 0:
                break
            word, offset = bit // _BITS, bit % _BITS
            while part:
                words[word] |= (part & ((1 << (_BITS - offset)) - 1)) << offset
                part >>= _BITS - offset
                word += 1
                offset = 0
            bit += width
        else:
            return sign
        sign = -1


@compiled
def _divide(words: Int64s, divisor: int) -> bool:
    """Divide by a number under 2**31; tell whether something remains."""
    rest = 0
    for i in range(len(words) - 1, -1, -1):
        rest = rest << _BITS | words[i]
        words[i] = rest // divisor
        rest %= divisor
    return rest != 0


@compiled
def _nearest(words: Int64s, exponent: int, more: bool) -> float:
    """The double nearest to words * 2**exponent, ties to even; `more`: a little more than that."""
    top = len(words) - 1
    while top >= 0 and words[top] == 0:
        top -= 1
    if top < 0:
        return 0.0
    second = words[top - 1] if top > 0 else 0
    third = words[top - 2] if top > 1 else 0
    size = 0
    while words[top] >> size:
        size += 1
    # The 60 highest bits, and whether any bit under them is set.
    high = ((words[top] << _BITS | second) << (_BITS - size)) | (third >> size)
    more = more or (third & ((1 << size) - 1)) != 0
    for i in range(top - 2):
        more = more or words[i] != 0
    exponent += (top - 2) * _BITS + size
    drop = max(7, -1074 - exponent)
    if drop > 61:
        return 0.0
    kept, rest, half = high >> drop, high & ((1 << drop) - 1), 1 << (drop - 1)
    if rest > half or (rest == half and (more or kept & 1)):
        kept += 1
    return math.ldexp(float(kept), exponent + drop)


@compiled
def quickly(high: int, low: int, width: int, unit: float, divisor: int) -> tuple[bool, float]:
    """Round (high * 2**width + low) / divisor once, by floats, and tell whether that is sure to be right.

    `unit` is 2.0**width.

    The quotient of the rounded sum is mended by its remainder, which is found without error (Dekker's
    product, 1971); the mended part is known to 2**-40 of itself: if twice as wide a change does not move the
    result, it is right (Ziv's test, 1991).
    """
    high, low = high + (low >> width), low & ((1 << width) - 1)
    if not -_WHOLE < high < _WHOLE or divisor >= 1 << 26:
        return False, 0.0
    # Both are whole and under 2**53, so that their float sum is rounded once, and `rest` is its error.
    large, small = float(high) * unit, float(low)
    total = large + small
    if divisor == 1:
        return True, total
    part = total - large
    rest = (large - (total - part)) + (small - part)
    over = float(divisor)
    first = total / over
    spread = first * 134217729.0
    top = spread - (spread - first)
    product = first * over
    error = (top * over - product) + (first - top) * over
    mend = (((total - product) - error) + rest) / over
    value = first + mend
    slack = math.fabs(mend) * 2.0**-40
    return first + (mend - slack) == value and first + (mend + slack) == value, value


@compiled
def rounded(digits: Int64s, width: int, base: int, divisor: Int64s, out: Doubles) -> None:
    """Round sums * 2**base / divisor once.

    Args:
        digits: (m, d); divisor: (m), positive and under 2**31, or 0: the result is 0.
        out: (m), written.
    """
    extra = 3
    words = np.zeros(extra + (digits.shape[1] * width + 64) // _BITS + 2, np.int64)
    plain = digits.shape[1] <= 2 and width <= 52 and -800 <= base <= 700
    scale = math.ldexp(1.0, int(base)) if plain else 1.0
    unit = math.ldexp(1.0, int(width))
    for i in range(len(out)):
        out[i] = 0.0
        if divisor[i]:
            if plain:
                high = digits[i, 1] if digits.shape[1] > 1 else 0
                sure, value = quickly(high, digits[i, 0], width, unit, divisor[i])
                if sure:
                    out[i] = value * scale
                    continue
            sign = _words(digits[i], width, words, extra)
            more = divisor[i] > 1 and _divide(words, divisor[i])
            out[i] = sign * _nearest(words, base - extra * _BITS, more) + 0.0


@compiled
def deviation(  # noqa: PLR0917 - compiled: no keywords
    digits: Int64s, first: int, width: int, base: int, count: Int64s, out: Doubles
) -> None:
    """The roots of the sample variances (n S2 - S1**2) / (n (n - 1)), the variances rounded once.

    Args:
        digits: (m, first + second): the digits of the sums S1, then of the sums of squares S2.
        count: (m): n, under 2**31; under 2: the result is 0.
        out: (m), written.
    """
    extra = 5
    size = 2 * ((digits.shape[1] * width + 64) // _BITS + 3)
    one = np.zeros(size, np.int64)
    two = np.zeros(size + extra, np.int64)
    square = np.zeros(2 * size, np.int64)
    for i in range(len(out)):
        out[i] = 0.0
        n = count[i]
        if n < 2:
            continue
        _words(digits[i, :first], width, one, 0)
        _words(digits[i, first:], width, two, extra)
        _square(one, square)
        carry = borrow = 0
        for k in range(extra, len(two)):
            carry += two[k] * n
            borrow += (carry & _BASE_MASK) - square[k - extra]
            two[k] = borrow & _BASE_MASK
            borrow >>= _BITS
            carry >>= _BITS
        more = _divide(two, n)
        more = _divide(two, n - 1) or more
        out[i] = math.sqrt(_nearest(two, 2 * base - extra * _BITS, more))


@compiled
def _square(words: Int64s, out: Int64s) -> None:
    top = len(words)
    while top > 0 and words[top - 1] == 0:
        top -= 1
    out[:] = 0
    for i in range(top):
        carry = 0
        for k in range(top):
            carry += out[i + k] + words[i] * words[k]
            out[i + k] = carry & _BASE_MASK
            carry >>= _BITS
        out[i + top] = carry

"""Sums of real numbers without error, and their mean and variance rounded once.

Knows doubles as integers times powers of two; it does not know where they come from.

A finite double is m * 2**e with whole m, so sums and sums of squares of doubles are too: Python's integers
hold them without error, and its division of integers rounds correctly (to nearest, ties to even).
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

_MANTISSA = float(2**53)


class Dyadic(NamedTuple):
    """The number mantissa * 2**exponent; the mantissa is odd, or both are 0: each number has one form."""

    mantissa: int
    exponent: int


ZERO = Dyadic(0, 0)


def dyadic(mantissa: int, exponent: int) -> Dyadic:
    """mantissa * 2**exponent in its one form."""
    if not mantissa:
        return ZERO
    zeros = (mantissa & -mantissa).bit_length() - 1
    return Dyadic(mantissa >> zeros, exponent + zeros)


def add(a: Dyadic, b: Dyadic) -> Dyadic:
    """The sum, without error."""
    low = min(a.exponent, b.exponent)
    return dyadic((a.mantissa << (a.exponent - low)) + (b.mantissa << (b.exponent - low)), low)


def exact_sums(values: Iterable[float], *, squares: bool) -> tuple[Dyadic, Dyadic]:
    """The sum of finite doubles and, where asked for, the sum of their squares (else zero)."""
    first: dict[int, int] = {}
    second: dict[int, int] = {}
    for value in values:
        fraction, exponent = math.frexp(value)
        mantissa = int(fraction * _MANTISSA)
        first[exponent] = first.get(exponent, 0) + mantissa
        if squares:
            second[exponent] = second.get(exponent, 0) + mantissa * mantissa
    return _gather(first, 1), _gather(second, 2)


def _gather(buckets: dict[int, int], power: int) -> Dyadic:
    if not buckets:
        return ZERO
    low = min(buckets)
    total = sum(mantissa << (power * (exponent - low)) for exponent, mantissa in buckets.items())
    return dyadic(total, power * (low - 53))


def rounded(mantissa: int, exponent: int, divisor: int = 1) -> float:
    """The double nearest to mantissa * 2**exponent / divisor; an infinity where that is too large.

    Args:
        divisor: positive.
    """
    try:
        if exponent >= 0:
            return (mantissa << exponent) / divisor + 0.0
        return mantissa / (divisor << -exponent) + 0.0
    except OverflowError:
        return math.inf if mantissa > 0 else -math.inf


def stddev(count: int, total: Dyadic, squares: Dyadic) -> float:
    """The root of the sample variance (n * S2 - S1**2) / (n * (n - 1)), the variance rounded once.

    Args:
        count: of the values, at least 2.
        total: the sum S1 of the values.
        squares: the sum S2 of their squares.
    """
    low = min(squares.exponent, 2 * total.exponent)
    scaled = (squares.mantissa << (squares.exponent - low)) * count
    scaled -= total.mantissa**2 << (2 * total.exponent - low)
    return math.sqrt(rounded(scaled, low, count * (count - 1)))

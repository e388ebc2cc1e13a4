"""Running totals of values, without error, and what their differences come to.

Knows how to choose digits for values; it does not know windows. The arithmetic is in `digits`.
"""

import numpy as np

from rayplat.features.aggregates.values import fitting
from rayplat.features.instants import Int64s
from rayplat.features.questions import Bools
from rayplat.features.windows import digits as exact
from rayplat.features.windows.digits import Doubles
from rayplat.features.windows.streams import Numbers

_NO_TOTALS = np.zeros((1, 0), np.int64)
_SPECIALS = 3


def digit_width(rows: int) -> int:
    """How wide digits may be so that those of so many rows, five pieces a row, add up in 62 bits."""
    return 59 - rows.bit_length()


class Totals:
    """Running totals of a part's values, and what their differences come to."""

    def __init__(self, numbers: Numbers, kinds: frozenset[str], width: int) -> None:
        self.prefix = _NO_TOTALS
        self._width, self._float = width, numbers.dtype == np.float64
        self._base = self._first = self._digits = 0
        if not kinds & {"sum", "mean", "stddev"}:
            return
        if self._float:
            mantissa, exponent = np.empty(len(numbers), np.int64), np.empty(len(numbers), np.int64)
            self._base, top = exact.split(numbers, mantissa, exponent)
        else:
            mantissa, exponent = numbers, np.zeros(len(numbers), np.int64)
            top = max(-int(numbers.min()), int(numbers.max())).bit_length() if len(numbers) else 0
        bits = max(top - self._base, 1)
        self._first = -(-bits // width)
        self._digits = self._first + (-(-2 * bits // width) if "stddev" in kinds else 0)
        specials = _specials(numbers) if self._float else []
        self.prefix = np.zeros((len(numbers) + 1, self._digits + len(specials)), np.int64)
        exact.running(
            mantissa, exponent, self._base, width, self._first, self._digits - self._first, self.prefix
        )
        for i, flag in enumerate(specials):
            np.cumsum(flag, out=self.prefix[1:, self._digits + i])

    def of(self, kind: str, sums: Int64s, count: Int64s) -> tuple[Numbers, Bools | None]:
        """A sum (of integers an integer), mean or stddev for each question, and where there is one.

        Args:
            sums: (q, d): differences of `prefix`.
            count: (q): of how many values.

        Raises:
            UserError: a sum of integers does not fit 64 bits.
        """
        if kind == "mean":
            return self._special(sums, self._rounded(sums, count)), count > 0
        if kind == "stddev":
            return self._deviation(sums, count), count > 1
        if self._float:
            return self._special(sums, self._rounded(sums, np.minimum(count, 1))), None
        if self._first == 1:
            return sums[:, 0].copy(), None
        return np.array([self._whole(row) for row in sums[:, : self._first].tolist()], np.int64), None

    def _deviation(self, sums: Int64s, count: Int64s) -> Doubles:
        out = np.empty(len(sums))
        digits = np.ascontiguousarray(sums[:, : self._digits])
        exact.deviation(digits, self._first, self._width, self._base, count, out)
        return np.where(np.isfinite(self._special(sums, np.zeros(len(sums)))), out, np.nan)

    def _rounded(self, sums: Int64s, divisor: Int64s) -> Doubles:
        out = np.empty(len(sums))
        digits = np.ascontiguousarray(sums[:, : self._first])
        exact.rounded(digits, self._width, self._base, divisor, out)
        return out

    def _whole(self, digits: list[int]) -> int:
        return fitting(sum(digit << (self._width * i) for i, digit in enumerate(digits)))

    def _special(self, sums: Int64s, finite: Doubles) -> Doubles:
        """Infinities and NaN where they are among the values."""
        if sums.shape[1] == self._digits:
            return finite
        nan, positive, negative = (sums[:, self._digits + i] > 0 for i in range(_SPECIALS))
        out = np.where(positive, np.inf, np.where(negative, -np.inf, finite))
        return np.where(nan | (positive & negative), np.nan, out)


def _specials(numbers: Doubles) -> list[Bools]:
    if np.isfinite(numbers).all():
        return []
    return [np.isnan(numbers), numbers == np.inf, numbers == -np.inf]

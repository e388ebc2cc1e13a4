"""The state of the aggregates over one stream of values: it takes values in, merges, and gives results.

Knows what each kind of aggregate must remember; it does not know windows, entities or stores.

Whatever the order of values and however they are cut in parts that are merged, the state is the same to
the byte, and so is every result. (Of `first` and `last` the ranks must tell the rows apart.)
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Self

import polars as pl

from rayplat.core.errors import BugError
from rayplat.features.aggregates import distinct, exact, quantile
from rayplat.features.aggregates.encoding import Reader, Writer
from rayplat.features.aggregates.exact import ZERO, Dyadic
from rayplat.features.aggregates.values import Value, family, fitting, output_dtype

Rank = tuple[int, int, int, int]
"""Where a row stands in its entity's order: event time and known time (us), offset, partition."""


@cache
def parts(kinds: frozenset[str]) -> frozenset[str]:
    """What must be remembered, besides the count, to answer these kinds of aggregates."""
    needs = {"sum": {"sum"}, "mean": {"sum"}, "stddev": {"sum", "squares"}, "count": set()}
    return frozenset(part for kind in kinds for part in needs.get(kind, {kind}))


class Accumulator:
    """A mergeable state that answers a set of kinds over one stream of values without nulls.

    Args:
        kinds: of `core.project.window.KINDS`.
        dtype: of the values.

    Raises:
        UserError: a kind has no meaning for values of the type.
    """

    __slots__ = (
        "_bins", "_ends", "_extremes", "_hashes", "_kin", "_kinds", "_nans", "_negative", "_parts",
        "_positive", "_squares", "_total", "count",
    )  # fmt: skip

    def __init__(self, kinds: frozenset[str], dtype: pl.DataType) -> None:
        self._kinds = kinds
        self._kin = _kin(kinds, dtype)
        self._parts = parts(kinds)
        self.count = 0
        self._nans = self._positive = self._negative = 0
        self._total = self._squares = ZERO
        self._extremes: dict[str, Value] = {}
        self._ends: dict[str, tuple[Rank, Value]] = {}
        self._hashes: list[int] = []
        self._bins: dict[int, int] = {}

    def update(self, values: Sequence[Value], ranks: Sequence[Rank] = ()) -> None:
        """Take values in.

        Args:
            values: in their one form, as `values.values_of` gives them; without nulls.
            ranks: the rank of each value's row, needed for `first` and `last`. Of equal ranks the earlier
                is the first and the later the last.
        """
        if not values:
            return
        self.count += len(values)
        need = self._parts
        if "first" in need or "last" in need:
            self._take_ends(values, ranks)
        if "nunique" in need:
            self._hashes = distinct.least([*self._hashes, *map(distinct.hash_of, values)])
        numbers = values
        if self._kin == "float" and not need.isdisjoint(_NUMERIC):
            numbers = self._without_nans(values)
        if "sum" in need:
            self._take_sums(numbers)
        for value in numbers if "quantile" in need else ():
            index = quantile.bin_of(float(value))
            self._bins[index] = self._bins.get(index, 0) + 1
        for which, extreme in _EXTREMES.items() if numbers else ():
            if which in need:
                self._extreme(which, extreme(numbers))

    def merge(self, other: "Accumulator") -> None:
        """Take in all that another accumulator of the same kinds and type has taken in."""
        self.count += other.count
        self._nans += other._nans
        self._positive += other._positive
        self._negative += other._negative
        self._total = exact.add(self._total, other._total)
        self._squares = exact.add(self._squares, other._squares)
        for which, value in other._extremes.items():
            self._extreme(which, value)
        for which, (rank, value) in other._ends.items():
            self._end(which, rank, value)
        if other._hashes:
            self._hashes = distinct.least([*self._hashes, *other._hashes])
        for index, count in other._bins.items():
            self._bins[index] = self._bins.get(index, 0) + count

    def result(self, kind: str, q: float | None = None) -> Value | None:
        """The aggregate of all values taken in; None where it is null.

        Times are physical integers and booleans 0 or 1: `values.column` makes a column of results.

        Args:
            kind: one of the kinds that it was made for.
            q: the rank of a quantile, 0 to 1.

        Raises:
            UserError: a sum of integers does not fit 64 bits.
        """
        if kind not in self._kinds:
            raise BugError(f"an accumulator of {sorted(self._kinds)} is asked for {kind!r}")
        if kind in ("count", "sum", "nunique"):
            return self._of_none(kind)
        if self.count == 0:
            return None
        if kind in ("first", "last"):
            return self._ends[kind][1]
        if kind in _EXTREMES:
            return self._extremes.get(kind, math.nan)
        return self._number(kind, q)

    def to_bytes(self) -> bytes:
        """The state; `from_bytes` reads it."""
        out = Writer()
        out.natural(self.count)
        for special in (self._nans, self._positive, self._negative) if self._kin == "float" else ():
            out.natural(special)
        for part, number in (("sum", self._total), ("squares", self._squares)):
            if part in self._parts:
                out.integer(number.mantissa)
                out.integer(number.exponent)
        for _, extreme in sorted(self._extremes.items()):
            out.value(self._kin, extreme)
        for _, (rank, value) in sorted(self._ends.items()):
            for number_ in rank:
                out.integer(number_)
            out.value(self._kin, value)
        if "nunique" in self._parts:
            out.natural(len(self._hashes))
            out.data += b"".join(found.to_bytes(8, "little") for found in self._hashes)
        if "quantile" in self._parts:
            out.natural(len(self._bins))
            for index, count in sorted(self._bins.items()):
                out.integer(index)
                out.natural(count)
        return bytes(out.data)

    @classmethod
    def from_bytes(cls, kinds: frozenset[str], dtype: pl.DataType, data: bytes) -> Self:
        """The accumulator whose state was written.

        Raises:
            IntegrityError: the bytes are no state of these kinds and this type.
        """
        made, read = cls(kinds, dtype), Reader(data)
        made._read(read)
        read.end()
        return made

    def _read(self, read: Reader) -> None:
        need, kin = self._parts, self._kin
        self.count = read.natural()
        if kin == "float":
            self._nans, self._positive, self._negative = read.natural(), read.natural(), read.natural()
        if "sum" in need:
            self._total = Dyadic(read.integer(), read.integer())
        if "squares" in need:
            self._squares = Dyadic(read.integer(), read.integer())
        for which in sorted(need & {"min", "max"}) if self.count > self._nans else ():
            self._extremes[which] = read.value(kin)
        for which in sorted(need & {"first", "last"}) if self.count else ():
            rank = (read.integer(), read.integer(), read.integer(), read.integer())
            self._ends[which] = rank, read.value(kin)
        if "nunique" in need:
            self._hashes = [int.from_bytes(read.take(8), "little") for _ in range(read.natural())]
        if "quantile" in need:
            self._bins = {read.integer(): read.natural() for _ in range(read.natural())}

    def _take_ends(self, values: Sequence[Value], ranks: Sequence[Rank]) -> None:
        if len(ranks) != len(values):
            raise BugError(f"{len(values)} values have {len(ranks)} ranks")
        for which in ("first", "last"):
            if which in self._parts:
                for rank, value in zip(ranks, values, strict=True):
                    self._end(which, rank, value)

    def _end(self, which: str, rank: Rank, value: Value) -> None:
        held = self._ends.get(which)
        if held is None or (rank < held[0] if which == "first" else rank >= held[0]):
            self._ends[which] = rank, value

    def _extreme(self, which: str, value: Value) -> None:
        held = self._extremes.get(which)
        # Values of one accumulator are of one family, which the type of a value cannot tell.
        if held is None or (value < held if which == "min" else value > held):  # type: ignore[operator]
            self._extremes[which] = value

    def _without_nans(self, values: Sequence[Value]) -> Sequence[Value]:
        numbers = [value for value in values if not math.isnan(value)]  # type: ignore[arg-type]
        self._nans += len(values) - len(numbers)
        return numbers

    def _take_sums(self, numbers: Sequence[Value]) -> None:
        squares = "squares" in self._parts
        if self._kin != "float":
            whole = [int(number) for number in numbers]
            total = exact.dyadic(sum(whole), 0)
            second = exact.dyadic(sum(n * n for n in whole) if squares else 0, 0)
        else:
            finite = [float(number) for number in numbers]
            self._positive += finite.count(math.inf)
            self._negative += finite.count(-math.inf)
            total, second = exact.exact_sums(filter(math.isfinite, finite), squares=squares)
        self._total = exact.add(self._total, total)
        self._squares = exact.add(self._squares, second)

    def _special(self) -> float | None:
        """The sum where not all values are finite."""
        if self._nans or (self._positive and self._negative):
            return math.nan
        if self._positive or self._negative:
            return math.inf if self._positive else -math.inf
        return None

    def _of_none(self, kind: str) -> Value:
        """The aggregates that are not null of no values."""
        if kind == "count":
            return self.count
        if kind == "nunique":
            return distinct.estimate(len(self._hashes), self._hashes[-1] if self._hashes else 0)
        special = self._special()
        if special is not None:
            return special
        if self._kin == "float":
            return exact.rounded(*self._total)
        return fitting(self._total.mantissa << self._total.exponent)

    def _number(self, kind: str, q: float | None) -> float | None:
        if kind == "quantile":
            return self._quantile(0.5 if q is None else q)
        if kind == "stddev" and self.count < 2:
            return None
        special = self._special()
        if kind == "mean":
            return exact.rounded(*self._total, self.count) if special is None else special
        return exact.stddev(self.count, self._total, self._squares) if special is None else math.nan

    def _quantile(self, q: float) -> float:
        left = quantile.rank(q, self.count - self._nans)
        for index, count in sorted(self._bins.items()):
            if left < count:
                return quantile.bin_value(index)
            left -= count
        return math.nan


_EXTREMES: "dict[str, Callable[[Sequence[Any]], Any]]" = {"min": min, "max": max}
_NUMERIC = frozenset({"sum", "min", "max", "quantile"})


@cache
def _kin(kinds: frozenset[str], dtype: pl.DataType) -> str:
    for kind in kinds:
        output_dtype(kind, dtype)
    return family(dtype)

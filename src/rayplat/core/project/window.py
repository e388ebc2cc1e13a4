"""Window aggregates as they are declared: which rows, which value of them, and how they are reduced.

Knows the shapes of windows and the kinds of aggregates; it does not know how either is computed.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from rayplat.core.errors import UserError

if TYPE_CHECKING:
    import polars as pl

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

KINDS = ("sum", "mean", "min", "max", "count", "stddev", "first", "last", "nunique", "quantile")
"""The aggregates that windows share passes and tiles for; `expression` is any other Polars aggregate.

Nulls are skipped by all of them. None depends on the order of the rows or on how they are cut in parts:
- `sum`, `mean`, `stddev`: the real number, rounded once (`stddev`: the root of the once rounded sample
  variance; null of fewer than two values). Sums of integers are integers.
- `count`: how many values are not null; `min`, `max`: the extremes.
- `first`, `last`: by event time, ties by known time, offset, partition.
- `nunique`: distinct values, estimated over 1,024; `quantile`: within 1 % of the value.
"""


def parse_length(text: str) -> timedelta:
    """Read a length of time such as `30m`, `3h` or `7d`.

    Raises:
        UserError: the text is no such length.
    """
    unit = _UNITS.get(text[-1:]) if isinstance(text, str) else None
    if unit is None or not text[:-1].isdigit() or int(text[:-1]) == 0:
        raise UserError(f"{text!r} is not a length of time", "write a number and s, m, h or d: '3h'")
    return timedelta(**{unit: int(text[:-1])})


@dataclass(frozen=True, slots=True)
class WindowAggregate:
    """One aggregate over a window.

    Attributes:
        window: which rows.
        kind: one of `KINDS`, or `expression`.
        value: a Polars expression: for `KINDS` the value of a row, else what reduces the window's rows.
        q: for `quantile` the rank, 0 to 1.
    """

    window: "Window"
    kind: str
    value: "pl.Expr"
    q: float | None = None

    @property
    def length(self) -> timedelta:
        """The length of the window."""
        return self.window.length

    @property
    def inputs(self) -> set[str]:
        """The source columns that the value and the filter read."""
        where = self.window.where
        return {*self.value.meta.root_names(), *(() if where is None else where.meta.root_names())}


@dataclass(frozen=True, slots=True)
class Window:
    """Rows by event time that are known at the time `t` of the question; its methods make aggregates.

    Attributes:
        length: the length of the window.
        every: None: sliding, the rows with an event time in (t - length, t]. Else hopping: the rows in
            [end - length, end), where `end` is the last multiple of `every` since 1970 (UTC) that is not
            after t. `every` equal to `length`: tumbling.
        where: a row counts only where this is true; None: every row.
    """

    length: timedelta
    every: timedelta | None = None
    where: "pl.Expr | None" = None

    def filter(self, where: "pl.Expr") -> "Window":
        """The same window, of the rows for which the Polars expression is true."""
        return replace(self, where=where if self.where is None else self.where & where)

    def agg(self, aggregate: "pl.Expr") -> WindowAggregate:
        """Any Polars aggregate, such as `pl.col("delay").skew()`; the methods here are much faster."""
        return WindowAggregate(self, "expression", aggregate)

    def sum(self, value: "str | pl.Expr") -> WindowAggregate:
        """The sum of a column or of a row expression; 0 where there is none."""
        return self._of("sum", value)

    def mean(self, value: "str | pl.Expr") -> WindowAggregate:
        """The mean; null where there is none."""
        return self._of("mean", value)

    def stddev(self, value: "str | pl.Expr") -> WindowAggregate:
        """The sample standard deviation; null where there are fewer than two."""
        return self._of("stddev", value)

    def min(self, value: "str | pl.Expr") -> WindowAggregate:
        """The least value; null where there is none."""
        return self._of("min", value)

    def max(self, value: "str | pl.Expr") -> WindowAggregate:
        """The greatest value; null where there is none."""
        return self._of("max", value)

    def count(self, value: "str | pl.Expr") -> WindowAggregate:
        """How many values are not null; 0 where there is none."""
        return self._of("count", value)

    def first(self, value: "str | pl.Expr") -> WindowAggregate:
        """The earliest value that is not null; null where there is none."""
        return self._of("first", value)

    def last(self, value: "str | pl.Expr") -> WindowAggregate:
        """The latest value that is not null; null where there is none."""
        return self._of("last", value)

    def nunique(self, value: "str | pl.Expr") -> WindowAggregate:
        """How many distinct values there are: exact to 1,024, then with a standard error of 3.1 %."""
        return self._of("nunique", value)

    def quantile(self, value: "str | pl.Expr", q: float) -> WindowAggregate:
        """The value at rank `q` (0 to 1), within 1 % of it; null where there is none."""
        return WindowAggregate(self, "quantile", _expression(value), q)

    def _of(self, kind: str, value: "str | pl.Expr") -> WindowAggregate:
        return WindowAggregate(self, kind, _expression(value))


def _expression(value: "str | pl.Expr") -> "pl.Expr":
    import polars as pl

    return pl.col(value) if isinstance(value, str) else value


def window(length: str, *, every: str | None = None, where: "pl.Expr | None" = None) -> Window:
    """A window such as `window("3h")`, which slides with the question, or `window("3h", every="1h")`.

    A text that is no length stays as it is: the project's validation reports it with its place.
    """
    return Window(_length(length), None if every is None else _length(every), where)


def tumbling(length: str, *, where: "pl.Expr | None" = None) -> Window:
    """The last whole window of windows that follow each other, such as `tumbling("1d")`: yesterday in UTC."""
    return window(length, every=length, where=where)


def _length(text: str) -> timedelta:
    try:
        return parse_length(text)
    except UserError:
        return text  # type: ignore[return-value]

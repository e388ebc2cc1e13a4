"""What a view answers, by plain loops that are obviously right. Knows no engine and no store."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Event:
    """One source row."""

    entity: str | None
    event: datetime
    known: datetime
    partition: int
    offset: int
    x: float | None

    @property
    def rank(self) -> tuple[datetime, datetime, int, int]:
        return (self.event, self.known, self.offset, self.partition)


def latest(events: Sequence[Event], entity: str | None, at: datetime, ttl: timedelta | None) -> Event | None:
    """The row that answers a row transform."""
    best: Event | None = None
    for row in events:
        if entity is None or row.entity != entity or row.event > at or row.known > at:
            continue
        if ttl is not None and at - row.event > ttl:
            continue
        if best is None or row.rank > best.rank:
            best = row
    return best


def in_window(events: Sequence[Event], entity: str, at: datetime, length: timedelta) -> list[Event]:
    """The rows of a window, in their order."""
    found = [
        row for row in events if row.entity == entity and at - length < row.event <= at and row.known <= at
    ]
    return sorted(found, key=lambda row: row.rank)


def _real(values: list[float], over: int = 1) -> float:
    """The sum over a whole number, by fractions, rounded once; with NaN and infinities as floats do."""
    odd = [value for value in values if not math.isfinite(value)]
    if odd:
        return sum(odd) + 0.0
    return _rounded(sum(map(Fraction, values), Fraction(0)) / over)


def _rounded(number: Fraction) -> float:
    try:
        return float(number) + 0.0
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _stddev(values: list[float]) -> float | None:
    if len(values) < 2:
        return None
    if not all(map(math.isfinite, values)):
        return math.nan
    mean = sum(map(Fraction, values), Fraction(0)) / len(values)
    variance = sum(((Fraction(value) - mean) ** 2 for value in values), Fraction(0)) / (len(values) - 1)
    return math.sqrt(_rounded(variance))


def quantile(values: list[float], q: float) -> float | None:
    """The middle of the bin, a 64th of a power of two wide, that the value at the rank falls into."""
    numbers = sorted(value for value in values if not math.isnan(value))
    if not numbers:
        return math.nan if values else None
    value = numbers[math.floor(q * (len(numbers) - 1))]
    if math.isinf(value):
        return value
    if abs(value) < 2.0**-1022:
        return 0.0
    fraction, exponent = math.frexp(abs(value))
    middle = (math.floor(fraction * 128) + 0.5) / 128
    return math.copysign(math.ldexp(middle, exponent), value)


def _nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _extreme(values: list[Any], which: Callable[..., Any]) -> Any:
    numbers = [value for value in values if not _nan(value)]
    return which(numbers) if numbers else math.nan if values else None


KINDS: dict[str, Callable[[list[Any]], Any]] = {
    "sum": lambda xs: _real(xs) if any(isinstance(x, float) for x in xs) else sum(xs),
    "mean": lambda xs: _real(xs, over=len(xs)) if xs else None,
    "stddev": _stddev,
    "count": len,
    "min": lambda xs: _extreme(xs, min),
    "max": lambda xs: _extreme(xs, max),
    "first": lambda xs: xs[0] if xs else None,
    "last": lambda xs: xs[-1] if xs else None,
    "nunique": lambda xs: len({"nan" if _nan(x) else x for x in xs}),
}
"""Aggregates of the values of a window that are not null, in their order; zero has one sign."""

AGGREGATES: dict[str, Callable[[list[float | None]], Any]] = {
    **{
        name: lambda xs, kind=kind: kind([x + 0.0 for x in xs if x is not None])
        for name, kind in KINDS.items()
        if name in ("sum", "mean", "count", "min", "max")
    },
    "last": lambda xs: xs[-1] if xs else None,
    "rows": len,
}
"""The features of `worlds.window_view`; its `last` is an expression, which sees nulls."""


def windowed(
    events: Sequence[Event], entity: str | None, at: datetime, length: timedelta, aggregate: str
) -> Any:
    """The value of one window feature."""
    if entity is None:
        return None
    return AGGREGATES[aggregate]([row.x for row in in_window(events, entity, at, length)])

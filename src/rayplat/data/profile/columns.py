"""The profile of a column: what its sketch says, as plain values that can be shown.

Knows how a sketch is read, and what may not be shown of personal data; it does not know how it was made.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from rayplat.data.profile.sketch import ColumnSketch

RANKS = {"p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
"""The quantiles of a profile, by name."""
BINS = 24
_TOP = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Rows by value: bin i holds edges[i] <= value < edges[i + 1], the last one its upper edge too."""

    edges: tuple[Any, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TopValue:
    """A frequent value and how many rows have it."""

    value: Any
    count: int


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """What is known of one column. Of personal data no value is known here.

    Attributes:
        nulls, nans: rows without a value, and with a NaN.
        distinct: how many values; `distinct_exact`: whether that is exact (else +- 1.6 %).
        least, greatest, mean, stddev: of the values; None where they have none.
        quantiles: value by name of `RANKS`; empty for texts.
        histogram: of numbers and times; None for others.
        top: the most frequent values; `top_exact`: whether their counts are exact (else from a sample).
        shortest, longest, mean_length: of texts in characters, of bytes in bytes.
        hidden: personal data: values are left out.
    """

    name: str
    type: str
    rows: int
    nulls: int
    nans: int
    distinct: int
    distinct_exact: bool
    least: Any = None
    greatest: Any = None
    mean: Any = None
    stddev: float | None = None
    quantiles: Mapping[str, Any] | None = None
    histogram: Histogram | None = None
    top: tuple[TopValue, ...] = ()
    top_exact: bool = False
    shortest: int | None = None
    longest: int | None = None
    mean_length: float | None = None
    hidden: bool = False


def column_profile(name: str, kind: str, sketch: ColumnSketch, *, hidden: bool) -> ColumnProfile:
    """Read a sketch.

    Args:
        kind: the column's type as it is shown.
        hidden: whether the values are personal data.
    """
    counted: dict[str, Any] = {
        "name": name,
        "type": kind,
        "rows": sketch.rows,
        "nulls": sketch.nulls,
        "nans": sketch.nans,
        "distinct": min(sketch.distinct.estimate(), sketch.rows - sketch.nulls),
        "distinct_exact": sketch.distinct.exact,
        "shortest": sketch.shortest,
        "longest": sketch.longest,
        "mean_length": sketch.lengths.mean if sketch.lengths.count else None,
        "hidden": hidden,
    }
    return ColumnProfile(**counted) if hidden else ColumnProfile(**counted, **_values(sketch))


def _values(sketch: ColumnSketch) -> dict[str, Any]:
    there = sketch.rows - sketch.nulls - sketch.nans
    shown: dict[str, Any] = {
        "least": sketch.least,
        "greatest": sketch.greatest,
        "top": tuple(TopValue(value, count) for value, count in sketch.frequent.top(_TOP)),
        "top_exact": sketch.frequent.exact,
    }
    if not sketch.numeric or not there:
        return shown
    found = _exact_quantiles(sketch) if sketch.frequent.exact else sketch.quantiles.at(list(RANKS.values()))
    return {
        **shown,
        "mean": _value(sketch.moments.mean, sketch.dtype),
        "stddev": sketch.moments.stddev if sketch.dtype.is_numeric() else None,
        "quantiles": {n: _value(v, sketch.dtype) for n, v in zip(RANKS, found, strict=False)},
        "histogram": _histogram(sketch, there),
    }


def _exact_quantiles(sketch: ColumnSketch) -> list[float]:
    """Where every value is counted, no sketch is needed: the least value with a share of `rank` up to it."""
    every = sketch.frequent.all()
    numbers = every["value"].to_physical().cast(pl.Float64)
    shares = every["count"].cum_sum() / every["count"].sum()
    return [float(numbers[int(shares.search_sorted(rank - 1e-12))]) for rank in RANKS.values()]


def _histogram(sketch: ColumnSketch, there: int) -> Histogram | None:
    low, high = _number(sketch.least), _number(sketch.greatest)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    if low == high:
        return Histogram((sketch.least, sketch.greatest), (there,))
    inner = _inner_edges(low, high, whole=sketch.dtype.is_integer())
    if sketch.frequent.exact:
        every = sketch.frequent.all()
        numbers = every["value"].to_physical().cast(pl.Float64)
        places = pl.Series(inner, dtype=pl.Float64).search_sorted(numbers, side="right")
        by_bin = dict(
            every.with_columns(places.alias("bin")).group_by("bin").agg(pl.col("count").sum()).iter_rows()
        )
        counts = [round(by_bin.get(i, 0)) for i in range(len(inner) + 1)]
    else:
        counts = [round(share * there) for share in sketch.quantiles.shares(inner)]
    return Histogram(tuple(_value(v, sketch.dtype) for v in (low, *inner, high)), tuple(counts))


def _inner_edges(low: float, high: float, *, whole: bool) -> list[float]:
    """The edges between bins of one width; of few whole numbers each has a bin of its own."""
    if whole and high - low < BINS:
        return [low + i for i in range(1, int(high - low) + 1)]
    width = (high - low) / BINS
    return [low + i * width for i in range(1, BINS) if low < low + i * width < high]


def _number(value: Any) -> float:
    """A value on the line on which its column is sketched."""
    if isinstance(value, datetime):
        return (value - _EPOCH) / timedelta(microseconds=1)
    if isinstance(value, date):
        return float((value - _EPOCH.date()).days)
    return float(value)


def _value(number: float, dtype: pl.DataType) -> Any:
    """The value at a place of that line."""
    if isinstance(dtype, pl.Datetime):
        return _EPOCH + timedelta(microseconds=round(number))
    if isinstance(dtype, pl.Date):
        return _EPOCH.date() + timedelta(days=round(number))
    return number

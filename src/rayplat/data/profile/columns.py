"""The profile of a column: what its sketch says, as plain values that can be shown.

Knows how a sketch is read, and what may not be shown of personal data; it does not know how it was made.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayplat.data.profile.sketch import ColumnSketch

RANKS = {"p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
"""The quantiles of a profile, by name."""
BINS = 24
_TOP = 10


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
        top: the most frequent values, none for lists; `top_exact`: whether their counts are exact (else
            from a sample).
        shortest, longest, mean_length: of texts in characters, of bytes in bytes, of lists in elements.
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
    sketch.settle()
    valued = sketch.rows - sketch.nulls - sketch.nans
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
        "mean_length": sketch.length / valued if sketch.shortest is not None else None,
        "hidden": hidden,
    }
    return ColumnProfile(**counted) if hidden else ColumnProfile(**counted, **_values(sketch))


def _values(sketch: ColumnSketch) -> dict[str, Any]:
    there = sketch.rows - sketch.nulls - sketch.nans
    kind = sketch.kind
    if kind.family == "list":
        return {}
    shown: dict[str, Any] = {
        "least": sketch.least,
        "greatest": sketch.greatest,
        "top": tuple(TopValue(value, count) for value, count in sketch.frequent.top(_TOP)),
        "top_exact": sketch.frequent.exact,
    }
    if not kind.numeric or not there:
        return shown
    found = _exact_quantiles(sketch) if sketch.frequent.exact else sketch.quantiles.at(list(RANKS.values()))
    return {
        **shown,
        "mean": kind.value(sketch.moments.mean),
        "stddev": sketch.moments.stddev if kind.family != "time" else None,
        "quantiles": {n: kind.value(v) for n, v in zip(RANKS, found, strict=False)},
        "histogram": _histogram(sketch, there),
    }


def _exact_quantiles(sketch: ColumnSketch) -> list[float]:
    """Where every value is counted, no sketch is needed: the least value with a share of `rank` up to it."""
    numbers, counts = sketch.frequent.numbers()
    shares = np.cumsum(counts) / counts.sum()
    return [float(numbers[int(np.searchsorted(shares, rank - 1e-12))]) for rank in RANKS.values()]


def _histogram(sketch: ColumnSketch, there: int) -> Histogram | None:
    kind = sketch.kind
    low, high = kind.place(sketch.least), kind.place(sketch.greatest)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    if low == high:
        return Histogram((sketch.least, sketch.greatest), (there,))
    inner = _inner_edges(low, high, whole=kind.family == "integer")
    if sketch.frequent.exact:
        numbers, rows = sketch.frequent.numbers()
        places = np.searchsorted(inner, numbers, side="right")
        counts = [round(count) for count in np.bincount(places, rows, len(inner) + 1).tolist()]
    else:
        counts = [round(share * there) for share in sketch.quantiles.shares(inner)]
    return Histogram(tuple(kind.value(v) for v in (low, *inner, high)), tuple(counts))


def _inner_edges(low: float, high: float, *, whole: bool) -> list[float]:
    """The edges between bins of one width; of few whole numbers each has a bin of its own."""
    if whole and high - low < BINS:
        return [low + i for i in range(1, int(high - low) + 1)]
    width = (high - low) / BINS
    return [low + i * width for i in range(1, BINS) if low < low + i * width < high]

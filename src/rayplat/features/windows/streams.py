"""The streams of values that the windows of a view reduce: each computed once, shared by its aggregates.

Knows which rows have a value and pass a filter; it does not know how windows are reduced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from rayplat.features.aggregates.distinct import hashes
from rayplat.features.aggregates.values import normal, output_dtype
from rayplat.features.instants import Int64s
from rayplat.features.plan import WindowFeature
from rayplat.features.questions import Bools

Numbers = npt.NDArray[Any]
"""Floats or integers of 64 bits."""

Span = tuple[int, int]
"""A window's shape: `every` (us; 0: sliding) and length (us)."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Values of rows under one filter.

    Attributes:
        numbers: the values, of the rows that have one, in their one form (see `aggregates.values`): floats
            or integers; of texts their places in `texts`.
        values: the values themselves.
        texts: of text, the distinct values, sorted.
        hashed: where they are counted, hashes of the values that sort like unsigned ones; else empty.
        features: what reduces them.
    """

    numbers: Numbers
    values: pl.Series
    texts: pl.Series
    hashed: Int64s
    features: tuple[WindowFeature, ...]


def stream(values: pl.Series, features: tuple[WindowFeature, ...]) -> Stream:
    """Prepare values without nulls.

    Raises:
        UserError: values are of a type that does not aggregate, or not so.
    """
    for feature in features:
        output_dtype(feature.kind, values.dtype)
    plain = normal(values)
    if plain.dtype == pl.Float64:
        values = plain.cast(output_dtype("first", values.dtype))
    texts = plain.clear()
    if plain.dtype == pl.String:
        texts, plain = plain.unique().sort(), plain.rank("dense").cast(pl.Int64) - 1
    numbers = plain.to_numpy()
    hashed = np.empty(0, np.int64)
    if any(feature.kind == "nunique" for feature in features):
        found = hashes(texts)[numbers] if len(texts) else hashes(plain)
        hashed = (found ^ np.uint64(1 << 63)).view(np.int64)
    return Stream(numbers, values, texts, hashed, features)


@dataclass(slots=True)
class Group:
    """Streams that have values in the same rows.

    Attributes:
        rows: the positions of these rows, rising; None: all rows.
        spans: the windows over them, sorted, so that each sliding one holds the one before it.
    """

    rows: Int64s | None
    streams: list[Stream] = field(default_factory=list)
    spans: tuple[Span, ...] = ()


def span(feature: WindowFeature) -> Span:
    """The shape of a feature's window."""
    return feature.every_us or 0, feature.length_us


def longest(features: Sequence[WindowFeature]) -> Span:
    """The longest window."""
    return max(map(span, features), key=lambda shape: shape[1])


def groups(features: Sequence[WindowFeature], code: npt.NDArray[Any], columns: pl.DataFrame) -> list[Group]:
    """The streams of features, by the rows that they have values in; the first group is all rows.

    Args:
        code: a number a row.
        columns: the rows: at least their `inputs`.

    Raises:
        UserError: values are of a type that does not aggregate.
    """
    # A frame without columns has no rows: the codes carry them.
    frame = pl.DataFrame([pl.Series("\0code", code), *columns.select(inputs(features)).get_columns()])
    found = [Group(None)]
    masks: list[Bools] = []
    for alike in _alike(features):
        values, mask = _evaluate(alike[0], frame)
        if mask is None:
            found[0].streams.append(stream(values, alike))
            continue
        place = next((i for i, known in enumerate(masks) if np.array_equal(known, mask)), len(masks))
        if place == len(masks):
            masks.append(mask)
            found.append(Group(np.flatnonzero(mask)))
        group = found[place + 1]
        group.streams.append(stream(values.filter(pl.Series(mask)), alike))
    found[0].spans = (longest(features),)
    for group in found:
        wanted = {span(feature) for stream in group.streams for feature in stream.features}
        group.spans = tuple(sorted({*group.spans, *wanted}))
    return found


def inputs(features: Sequence[WindowFeature]) -> list[str]:
    """The columns that the values and filters of features read."""
    exprs = [expr for feature in features for expr in (feature.value, feature.where) if expr is not None]
    return sorted({column for expr in exprs for column in expr.meta.root_names()})


def _alike(features: Sequence[WindowFeature]) -> list[tuple[WindowFeature, ...]]:
    """Features by their value and filter."""
    streams: dict[tuple[bytes, bytes], list[WindowFeature]] = {}
    for feature in features:
        if feature.kind != "expression":
            where = b"" if feature.where is None else feature.where.meta.serialize()
            streams.setdefault((feature.value.meta.serialize(), where), []).append(feature)
    return [tuple(stream) for stream in streams.values()]


def _evaluate(feature: WindowFeature, frame: pl.DataFrame) -> tuple[pl.Series, Bools | None]:
    """The value of each row, and the rows that have one and pass; None: all of them."""
    taken = frame.with_columns(feature.value.alias("\0value"))
    values = taken.get_column("\0value")
    passed = passing(feature, frame)
    if values.null_count():
        present = values.is_not_null().to_numpy()
        passed = present if passed is None else passed & present
    return values, None if passed is None or passed.all() else passed


def passing(feature: WindowFeature, frame: pl.DataFrame) -> Bools | None:
    """The rows that pass a feature's filter; None without a filter."""
    if feature.where is None:
        return None
    passed = frame.with_columns(feature.where.cast(pl.Boolean).alias("\0where")).get_column("\0where")
    return passed.fill_null(value=False).to_numpy()

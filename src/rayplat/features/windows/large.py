"""Window aggregates of many questions: entities in parts, each part by the kernels, on all cores.

Knows how to cut entities in parts and to gather what they give; it does not know the arithmetic.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from os import cpu_count

import numpy as np
import polars as pl

from rayplat.features.aggregates.values import output_dtype
from rayplat.features.instants import Int64s
from rayplat.features.ordering import by_entity
from rayplat.features.plan import WindowFeature
from rayplat.features.questions import Bools, Questions
from rayplat.features.timeline import Timeline
from rayplat.features.windows import parts
from rayplat.features.windows.streams import Group, Numbers, Span, Stream, groups, longest
from rayplat.features.windows.totals import digit_width

PART = 1 << 16
"""About how many rows and questions a part has: few enough that a core's cache holds them."""


@dataclass(frozen=True, slots=True)
class _Column:
    """What a feature gives, question by question, while parts fill it in."""

    numbers: Numbers
    some: Bools | None


@dataclass(frozen=True, slots=True)
class _Work:
    """All that a part reads and writes.

    Attributes:
        start: where each entity begins in the timeline; `order`, `begin`: questions by entity.
    """

    line: Timeline
    late: bool
    at: Int64s
    code: Int64s
    start: Int64s
    order: Int64s
    begin: Int64s
    groups: list[Group]
    widest: Span
    columns: dict[str, _Column]
    newest: Int64s


def aggregate(
    features: Sequence[WindowFeature], line: Timeline, questions: Questions, part: int = PART
) -> tuple[list[pl.Series], Int64s]:
    """Features of the kinds `core.project.window.KINDS`, one row a question, for many questions.

    Args:
        part: see `PART`.

    Returns:
        the features, in no order, and the position of the newest row in the longest window (-1: none).
    """
    entities = int(line.code[-1]) + 1 if len(line.code) else 0
    order, begin = by_entity(questions.code, entities)
    shared = groups(features, line)
    streams = [stream for group in shared for stream in group.streams]
    work = _Work(
        line, line.late, questions.at, questions.code, _starts(line.code, entities), order, begin, shared,
        longest(features), _columns(streams, len(questions.at)), np.full(len(questions.at), -1),
    )  # fmt: skip
    cuts = _cuts(work.start + work.begin, part)
    if len(cuts) <= 2:
        for first, last in pairwise(cuts):
            _part(work, first, last)
    else:
        with ThreadPoolExecutor(cpu_count()) as pool:
            list(pool.map(lambda ends: _part(work, *ends), pairwise(cuts)))
    found = [
        _series(feature, stream, work.columns[feature.name], questions.null)
        for stream in streams
        for feature in stream.features
    ]
    return found, work.newest


def _starts(code: Int64s, entities: int) -> Int64s:
    start = np.zeros(entities + 1, np.int64)
    np.cumsum(np.bincount(code, minlength=entities), out=start[1:])
    return start


def _cuts(load: Int64s, part: int) -> list[int]:
    """Where parts of entities end, by the rows and questions before each entity."""
    goals = np.arange(0, int(load[-1]), part)
    return np.unique([*np.searchsorted(load, goals), len(load) - 1]).tolist() if len(load) > 1 else []


def _columns(streams: list[Stream], questions: int) -> dict[str, _Column]:
    made = {}
    for stream in streams:
        for feature in stream.features:
            integer = feature.kind in _INTEGERS or (
                feature.kind == "sum" and stream.numbers.dtype == np.int64
            )
            some = None if feature.kind in _NEVER_NULL else np.zeros(questions, np.bool_)
            made[feature.name] = _Column(np.zeros(questions, np.int64 if integer else np.float64), some)
    return made


_INTEGERS = frozenset({"count", "nunique", "min", "max", "first", "last"})
_NEVER_NULL = frozenset({"count", "nunique", "sum"})


def _part(work: _Work, first: int, last: int) -> None:
    """Answer the questions about the entities [first, last)."""
    asking = work.order[work.begin[first] : work.begin[last]]
    if len(asking) == 0:
        return
    at, code = work.at[asking], work.code[asking] - first
    for i, group in enumerate(work.groups):
        if i and not group.streams:
            continue
        start, event, known, rows = _rows(work, group, first, last)
        asked = parts.locate(start, event, known, code, at, group.spans, work.late)
        if i == 0:
            newest = parts.newest(asked, rows.start)
            work.newest[asking] = newest[:, group.spans.index(work.widest)]
        width = digit_width(int(np.diff(start).max(initial=1)))
        for stream in group.streams:
            for name, (numbers, some) in parts.reduce(asked, stream, rows, width).items():
                column = work.columns[name]
                column.numbers[asking] = numbers
                if column.some is not None and some is not None:
                    column.some[asking] = some


def _rows(work: _Work, group: Group, first: int, last: int) -> tuple[Int64s, Int64s, Int64s, slice]:
    """Where each entity's rows of a group begin, their times, and where they stand in the group."""
    start = work.start[first : last + 1]
    if group.rows is None:
        rows = slice(int(start[0]), int(start[-1]))
        return start - start[0], work.line.event[rows], work.line.known[rows], rows
    start = np.searchsorted(group.rows, start)
    rows = slice(int(start[0]), int(start[-1]))
    taken = group.rows[rows]
    return start - start[0], work.line.event[taken], work.line.known[taken], rows


def _series(feature: WindowFeature, stream: Stream, column: _Column, null: Bools) -> pl.Series:
    """A feature's column, of its type."""
    out = output_dtype(feature.kind, stream.values.dtype)
    numbers, empty = column.numbers, null if column.some is None else null | ~column.some
    if feature.kind in ("first", "last"):
        values = stream.values.gather(pl.Series(np.where(empty, 0, numbers)) if len(stream.values) else [])
        if not len(stream.values):
            values = stream.values.clear(len(numbers))
    elif feature.kind in ("min", "max") and stream.values.dtype == pl.String:
        places = pl.Series(numbers).set(pl.Series(empty), None)
        values = stream.texts.gather(places)
    elif feature.kind in ("min", "max") and stream.numbers.dtype == np.float64:
        values = pl.Series(parts.from_keys(numbers))
    else:
        values = pl.Series(numbers)
    return _typed(values, out).set(pl.Series(empty), None).alias(feature.name)


def _typed(values: pl.Series, out: pl.DataType) -> pl.Series:
    if values.dtype == out:
        return values
    if out.is_temporal():
        return values.cast(pl.Series([], dtype=out).to_physical().dtype).cast(out)
    return values.cast(out)

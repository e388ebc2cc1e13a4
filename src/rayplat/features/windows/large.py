"""Window aggregates of many questions: entities in blocks, each block by the kernels, on all cores.

Knows which kernel takes a block and where its answers go; it does not know the arithmetic.

A block of plain numbers (see `plain`) is answered in one pass; any other by `parts`, with the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from rayplat.features.aggregates.values import output_dtype
from rayplat.features.instants import Int64s
from rayplat.features.ordering import by_entity
from rayplat.features.plan import WindowFeature
from rayplat.features.questions import Bools, Questions
from rayplat.features.windows import kernels, parts, plain, scatter
from rayplat.features.windows.blocks import BLOCK, Block, Blocks, Rows, in_threads
from rayplat.features.windows.scatter import Flags
from rayplat.features.windows.streams import Group, Numbers, Span, Stream, groups, longest, span
from rayplat.features.windows.totals import digit_width

_NONE = np.empty(0, np.int64)
_EDGE = np.iinfo(np.int64)
_PLAIN = {
    "sum": plain.SUM,
    "mean": plain.MEAN,
    "min": plain.LEAST,
    "max": plain.GREATEST,
    "count": plain.COUNT,
    "first": plain.FIRST,
    "last": plain.LAST,
}
_NEVER_NULL = frozenset({"count", "nunique", "sum"})


@dataclass(frozen=True, slots=True)
class _Work:
    """What all blocks read and write.

    Attributes:
        at, code: of the questions, by entity; `begin`: where those about each entity begin.
        found, some: (q + 1, features): the answers, and where there is one; the last row is of no entity.
        column: of each feature by its name.
        newest: (q + 1): the position of the newest row in the widest window; None: nobody asks.
    """

    at: Int64s
    code: Int64s
    begin: Int64s
    found: Int64s
    some: Flags
    column: dict[str, int]
    newest: Int64s | None


def aggregate(
    features: Sequence[WindowFeature],
    rows: Rows,
    columns: pl.DataFrame,
    questions: Questions,
    *,
    tell_newest: bool = True,
    size: int = BLOCK,
) -> tuple[list[pl.Series], Int64s]:
    """Features of the kinds `core.project.window.KINDS`, one row a question, for many questions.

    Args:
        rows: the source's rows; `columns`: at least the features' inputs.
        tell_newest: whether somebody wants to know the newest rows; their order needs the `ties` of rows.
        size: see `blocks.BLOCK`.

    Returns:
        the features, in no order, and the position of the newest row in the longest window (-1: none).
    """
    entities = max(int(rows.code.max(initial=-1)), int(questions.code.max(initial=-1))) + 1
    order, begin = by_entity(questions.code, entities)
    shared = groups(features, rows.code, columns)
    streams = [stream for group in shared for stream in group.streams]
    names = [feature.name for stream in streams for feature in stream.features]
    shape = len(order) + 1, len(names)
    work = _Work(
        questions.at[order], questions.code[order], begin, np.zeros(shape, np.int64),
        np.zeros(shape, np.uint8), {name: place for place, name in enumerate(names)},
        np.full(len(order) + 1, -1) if tell_newest else None,
    )  # fmt: skip
    for i, group in enumerate(shared):
        if group.streams or (i == 0 and tell_newest):
            _group(work, group, rows, longest(features) if i == 0 and tell_newest else None, size)
    place = np.full(len(questions.at), len(order))
    place[order] = np.arange(len(order))
    values, some = _columns(work, place)
    found = [
        _series(
            feature, stream, values[work.column[feature.name]], some[work.column[feature.name]], questions
        )
        for stream in streams
        for feature in stream.features
    ]
    return found, _NONE if work.newest is None else work.newest[place]


def _group(work: _Work, group: Group, rows: Rows, widest: Span | None, size: int) -> None:
    """Answer the features of a group; with `widest` also which row is the newest there."""
    if group.rows is None:
        own = Rows(rows.code.copy(), rows.event, rows.known, rows.ties)
    else:
        own = rows.take(group.rows)
    since, until = _reach(group, work.at)
    blocks = Blocks(own, np.diff(work.begin), since, until, size)
    late = own.late
    in_threads(
        lambda number: _block(work, group, own, blocks.block(number), (late, widest)), range(len(blocks))
    )


def _reach(group: Group, at: Int64s) -> tuple[int, int]:
    """The times of the first and the last row that can be in a window."""
    if len(at) == 0:
        return 0, -1
    back = max(every + length for every, length in group.spans)
    return max(int(at.min()) - back, _EDGE.min), int(at.max())


def _block(work: _Work, group: Group, rows: Rows, block: Block, how: tuple[bool, Span | None]) -> None:
    late, widest = how
    asking = slice(int(work.begin[block.first]), int(work.begin[block.last]))
    if asking.start == asking.stop:
        return
    known = rows.known[block.row] if late else block.event
    settled = kernels.settled_by(block.start, known) if late else _NONE
    rest = [
        stream
        for stream in group.streams
        if not _plainly(work, group, stream, block, asking, (known if late else _NONE, settled))
    ]
    if not rest and widest is None:
        return
    code, at = work.code[asking] - block.first, work.at[asking]
    asked = parts.locate(block.start, block.event, known, code, at, group.spans, late)
    if widest is not None and work.newest is not None:
        work.newest[asking] = parts.newest(asked, block.row)[:, group.spans.index(widest)]
    for stream in rest:
        for name, answer in parts.reduce(asked, stream, block.row, digit_width(block.widest)).items():
            _put(work, name, asking, *answer)


def _put(work: _Work, name: str, asking: slice, numbers: Numbers, some: Bools | None) -> None:
    column = work.column[name]
    work.found[asking, column] = np.ascontiguousarray(numbers).view(np.int64)
    work.some[asking, column] = True if some is None else some


def _plainly(  # noqa: PLR0917 - one block's arrays
    work: _Work, group: Group, stream: Stream, block: Block, asking: slice, late: tuple[Int64s, Int64s]
) -> bool:
    """Answer a stream's features of a block by `plain`, if it is of that sort."""
    kinds = {feature.kind for feature in stream.features}
    if not kinds <= _PLAIN.keys():
        return False
    real = stream.numbers.dtype == np.float64
    numbers = stream.numbers[block.row]
    width = min(digit_width(block.widest), plain.WIDEST)
    prefix, base = np.zeros((len(numbers) + 1, 2), np.int64), 0
    if kinds & {"sum", "mean"}:
        fits, base = plain.running(numbers.view(np.int64), real, width, prefix)
        if not fits:
            return False
    lows, highs, levels = _NONE, _NONE, _NONE
    if kinds & {"min", "max"}:
        lows, highs = parts.keys(numbers)
        if lows is not highs:
            return False
        levels = np.zeros(1, np.int64)
        if block.widest > 2 * kernels.BLOCK:
            lows, highs, levels = parts.blocks(lows, highs)
    wanted = sorted(
        (group.spans.index(span(feature)), _PLAIN[feature.kind], work.column[feature.name])
        for feature in stream.features
    )
    found = work.found[asking]
    known, settled = late
    return plain.answer(
        (block.start, block.event, block.row, known, settled),
        (work.code[asking], block.first, work.at[asking]),
        (np.array([length for _, length in group.spans]), np.array([every for every, _ in group.spans])),
        prefix,
        (width, base),
        real,
        (lows, highs, levels),
        np.array(wanted, np.int64),
        (found, found.view(np.float64), work.some[asking]),
    )


def _columns(work: _Work, place: Int64s) -> tuple[Int64s, Flags]:
    """The answers by feature, in the order of the questions."""
    shape = work.found.shape[1], len(place)
    values, some = np.empty(shape, np.int64), np.empty(shape, np.uint8)

    def turn(begin: int) -> None:
        scatter.spread(work.found, work.some, place[begin : begin + 8 * BLOCK], values, some, begin)

    in_threads(turn, range(0, len(place), 8 * BLOCK) or [0])
    return values, some


def _series(
    feature: WindowFeature, stream: Stream, numbers: Int64s, some: Flags, questions: Questions
) -> pl.Series:
    """A feature's column, of its type."""
    out = output_dtype(feature.kind, stream.values.dtype)
    empty = questions.null if feature.kind in _NEVER_NULL else questions.null | (some == 0)
    if feature.kind in ("first", "last"):
        values = stream.values.gather(pl.Series(np.where(empty, 0, numbers)) if len(stream.values) else [])
        if not len(stream.values):
            values = stream.values.clear(len(numbers))
    elif feature.kind in ("min", "max") and stream.values.dtype == pl.String:
        values = stream.texts.gather(pl.Series(numbers).set(pl.Series(empty), None))
    elif feature.kind in ("mean", "stddev", "quantile") or (
        feature.kind in ("sum", "min", "max") and stream.numbers.dtype == np.float64
    ):
        values = pl.Series(numbers.view(np.float64))
    else:
        values = pl.Series(numbers)
    typed = _typed(values, out)
    return (typed.set(pl.Series(empty), None) if empty.any() else typed).alias(feature.name)


def _typed(values: pl.Series, out: pl.DataType) -> pl.Series:
    if values.dtype == out:
        return values
    if out.is_temporal():
        return values.cast(pl.Series([], dtype=out).to_physical().dtype).cast(out)
    return values.cast(out)

"""Values: the columns of the rows that answer, and of no others.

Knows how winners are brought to the parts that have them; it does not know how they were found.
"""

import threading
from collections.abc import Sequence
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.features.instants import Int64s
from rayplat.features.join import arrays, kernels
from rayplat.features.join.parts import Part
from rayplat.features.join.turns import in_threads

SHIFT = 14
"""Blocks of so many rows (2 to the power of it): few enough that what a page needs lies in few of them."""


def gather(
    parts: Sequence[Part], schema: pa.Schema, columns: Sequence[str], row: Int64s, order: Int64s
) -> tuple[pl.DataFrame, arrays.Bools]:
    """Read columns of some rows of a source.

    Args:
        parts: the source; `schema`: the types of its columns.
        columns: their names.
        row: the position of each wanted row in the source; -1: none, which gives null.
        order: where each wanted row comes in the result; a permutation.

    Returns:
        The columns, and where there is a row at all.
    """
    picks = _Picks(row, order, sum(part.rows for part in parts))
    matched = picks.found
    found = [_column(schema.field(name).type, matched) for name in columns]
    firsts = np.cumsum([0, *(part.rows for part in parts)]).tolist()
    tasks = [
        partial(_read, part, firsts[number], name, picks, column)
        for number, part in enumerate(parts)
        if picks.any(firsts[number], firsts[number + 1])
        for name, column in zip(columns, found, strict=True)
    ]
    in_threads(tasks)
    made = [pl.Series(name, column.result()) for name, column in zip(columns, found, strict=True)]
    return pl.DataFrame(made), matched


class _Picks:
    """Wanted rows, sorted by blocks of the source, so that those of a batch are found at once."""

    def __init__(self, row: Int64s, order: Int64s, rows: int) -> None:
        self.packed, self.found = np.empty(len(row), np.int64), np.empty(len(row), bool)
        # Two threads sort a half of the questions each, after both have counted.
        halves = (slice(0, len(row) // 2), slice(len(row) // 2, len(row)))
        counts = np.zeros((2, (rows >> SHIFT) + 2), np.int64)
        in_threads([partial(kernels.of_block, row[half], SHIFT, counts[i]) for i, half in enumerate(halves)])
        self.start = np.zeros(counts.shape[1] + 1, np.int64)
        np.cumsum(counts.sum(axis=0), out=self.start[1:])
        places = (self.start[:-1].copy(), self.start[:-1] + counts[0])
        out = (self.packed, self.found)
        in_threads(
            [
                partial(kernels.by_block, row[half], order[half], SHIFT, place, *out)
                for half, place in zip(halves, places, strict=True)
            ]
        )

    def any(self, first: int, last: int) -> bool:
        """Whether a row of [first, last) may be wanted: one of the blocks that it touches is."""
        return last > first and bool(self.start[((last - 1) >> SHIFT) + 1] > self.start[first >> SHIFT])

    def within(self, first: int, last: int) -> tuple[Int64s, Int64s]:
        """The wanted rows of [first, last), counted from `first`, and where they go."""
        blocks = np.arange(first >> SHIFT, ((last - 1) >> SHIFT) + 1)
        counts = self.start[blocks + 1] - self.start[blocks]
        packed = self.packed[self.start[blocks[0]] : self.start[blocks[-1] + 1]]
        rows = np.repeat((blocks << SHIFT) - first, counts) + (packed & ((1 << SHIFT) - 1))
        here = (rows >= 0) & (rows < last - first)
        return rows[here], packed[here] >> SHIFT


def _read(part: Part, first: int, name: str, picks: _Picks, column: "_Fixed | _Any") -> None:
    pages = part.packed(name) if isinstance(column, _Fixed) else None
    if pages is None or not isinstance(column, _Fixed):
        for batch in part.batches([name]):
            if picks.any(first, first + batch.num_rows):
                column.take(batch.column(0), first, picks)
            first += batch.num_rows
        return
    held = np.empty(max(pages.rows, default=0), np.int64)
    read = arrays.frozen(held[:])
    for page, rows in enumerate(pages.rows):
        if picks.any(first, first + rows):
            pages.into(page, held[:rows])
            column.take_bits(read[:rows], first, picks)
        first += rows


def _column(kind: pa.DataType, matched: arrays.Bools) -> "_Fixed | _Any":
    return _Fixed(kind, matched) if arrays.fixed(kind) else _Any(kind, len(matched))


class _Fixed:
    """Values of a fixed width, written where they go."""

    def __init__(self, kind: pa.DataType, matched: arrays.Bools) -> None:
        self._kind = kind
        self._out = np.zeros(len(matched), arrays.bits(pa.array([], kind)).dtype)
        self._matched, self._valid = matched, None if matched.all() else matched
        self._lock = threading.Lock()

    def take(self, values: pa.Array, first: int, picks: _Picks) -> None:
        """Take the wanted values of a batch that begins at the position `first`."""
        bitmap = arrays.bitmap(values)
        if bitmap is None:
            self.take_bits(arrays.bits(values), first, picks)
            return
        with self._lock:
            if self._valid is None or self._valid is self._matched:
                self._valid = self._matched.copy()
        told = self._valid.view(np.uint8)
        where = (first, picks.start, picks.packed, SHIFT, self._out, told)
        kernels.pick_told(arrays.bits(values), bitmap, values.offset, *where)

    def take_bits(self, values: arrays.Values, first: int, picks: _Picks) -> None:
        """Take the wanted ones of values none of which is null; the first one's position is `first`."""
        kernels.pick(values, first, picks.start, picks.packed, SHIFT, self._out)

    def result(self) -> pa.Array:
        """All values."""
        return arrays.column_of(self._out, self._kind, self._valid)


class _Any:
    """Values of any kind, such as texts."""

    def __init__(self, kind: pa.DataType, count: int) -> None:
        self._kind, self._count = kind, count
        self._taken: list[tuple[pa.Array, Int64s]] = []

    def take(self, values: pa.Array, first: int, picks: _Picks) -> None:
        """Take the wanted values of a batch that begins at the position `first`."""
        rows, slots = picks.within(first, first + len(values))
        # list.append is atomic: threads of one column need no lock.
        self._taken.append((values.take(pa.array(rows)), slots))

    def result(self) -> pa.Array:
        """All values."""
        place = np.full(self._count, -1)
        slots = np.concatenate([slots for _, slots in self._taken] or [np.empty(0, np.int64)])
        place[slots] = np.arange(len(slots))
        values = pa.chunked_array([values for values, _ in self._taken], self._kind)
        return values.combine_chunks().take(pa.array(place, mask=place < 0))

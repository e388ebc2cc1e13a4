"""Entities in blocks: a source's rows and the questions about them, cut so that a core's cache holds a block.

Knows how to cut entities and where each one's rows and questions stand; it does not know windows.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from os import cpu_count
from typing import TypeVar

import numpy as np

from rayplat.features.instants import Int64s
from rayplat.features.ordering import sort_within
from rayplat.features.windows import scatter
from rayplat.features.windows.scatter import Codes

BLOCK = 1 << 15
"""About how many rows and questions a block has."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Rows:
    """A source's rows in any order.

    Attributes:
        code: the entity of each row; -1: none.
        event, known: their times, us; the same array where no row is late.
        ties: what orders rows of equal times, the weightiest first, before their position; of no use unless
            somebody asks for the first or the last row.
    """

    code: Codes
    event: Int64s
    known: Int64s
    ties: Sequence[Int64s] = ()

    @property
    def late(self) -> bool:
        """Whether some row became known only after its event time."""
        return self.known is not self.event and bool((self.known > self.event).any())

    def take(self, rows: Int64s) -> "Rows":
        """Some of the rows."""
        event = self.event[rows]
        known = event if self.known is self.event else self.known[rows]
        return Rows(self.code[rows], event, known, [tie[rows] for tie in self.ties])


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of neighbouring entities, by entity and time.

    Attributes:
        first, last: the entities [first, last).
        start: where the rows of each of them begin, from 0, and the end.
        event: the time of each row; `row`: its position in the source.
    """

    first: int
    last: int
    start: Int64s
    event: Int64s
    row: Int64s

    @property
    def widest(self) -> int:
        """The most rows of an entity."""
        return int(np.diff(self.start).max(initial=0))


class Blocks:
    """All rows that matter, by block.

    Args:
        rows: the rows; codes of those that do not matter are lost.
        asked: how many questions there are about each entity.
        since, until: the times of the first and the last row that matter to any question.
        size: see `BLOCK`.
    """

    def __init__(self, rows: Rows, asked: Int64s, since: int, until: int, size: int = BLOCK) -> None:
        self._rows, self._size = rows, size
        self._ties = np.column_stack(rows.ties) if rows.ties else np.empty((len(rows.code), 0), np.int64)
        entities = len(asked)
        threads = cpu_count() or 1
        ends = np.linspace(0, len(rows.code), threads + 1).astype(np.int64).tolist()
        parts = [slice(begin, end) for begin, end in pairwise(ends)]
        wanted = (asked > 0).astype(np.uint8)
        counts = np.zeros((threads, entities), np.int32)
        both = list(zip(parts, counts, strict=True))
        in_threads(
            lambda of: scatter.count(rows.code[of[0]], rows.event[of[0]], wanted, since, until, of[1]), both
        )
        held = counts.sum(axis=0, dtype=np.int64)
        self._start = np.concatenate([[0], np.cumsum(held)])
        self.cuts = _cuts(np.concatenate([[0], np.cumsum((held + asked) * wanted)]), size)
        block = np.repeat(np.arange(len(self.cuts) - 1, dtype=np.int32), np.diff(self.cuts))
        self._moved = np.empty((int(self._start[-1]), 2), np.int64)
        fills, fill = [], self._start[self.cuts[:-1]]
        for part in counts:
            fills.append(fill)
            fill = fill + np.add.reduceat(part, self.cuts[:-1], dtype=np.int64) if len(part) else fill
        in_threads(
            lambda of: scatter.scatter(
                rows.code[of[0]], rows.event[of[0]], block, of[1], of[0].start, self._moved
            ),
            list(zip(parts, fills, strict=True)),
        )

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def block(self, number: int) -> Block:
        """A block, sorted."""
        first, last = int(self.cuts[number]), int(self.cuts[number + 1])
        base = int(self._start[first])
        start = self._start[first : last + 1] - base
        size = int(start[-1])
        event, row = np.empty(size, np.int64), np.empty(size, np.int64)
        rising, equal = scatter.settle(self._moved[base : base + size], start, first, event, row)
        if not rising or (equal and self._ties.shape[1]):
            sort_within(self._rows.event, self._ties, row, start)
            event = self._rows.event[row]
        return Block(first, last, start, event, row)


def _cuts(load: Int64s, size: int) -> Int64s:
    """Where blocks of entities end, by the rows and questions before each entity."""
    if len(load) == 1:
        return np.zeros(1, np.int64)
    goals = np.arange(0, int(load[-1]), size)
    return np.unique([0, *np.searchsorted(load, goals), len(load) - 1]).astype(np.int64)


def in_threads(function: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Call a function for each item, on all cores."""
    if len(items) == 1:
        function(items[0])
        return
    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(function, items))

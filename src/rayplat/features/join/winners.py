"""Winners: which source row answers each question, found in one pass over the parts of the source.

Knows the rule of the last known row (see `point_in_time`); it does not know the values of rows.

Time orders the parts of most tables. Then rows and questions are walked together, both by time, with nothing
kept but the best row of each entity so far: a row is taken in when it becomes visible, and a question reads
what is there. Rows that later parts may precede wait until those are read. Where time does not order the
parts, each is walked by itself, and what it says replaces what others said if it is greater.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rayplat.features.instants import Int64s
from rayplat.features.join import kernels
from rayplat.features.join.arrays import Values
from rayplat.features.join.asked import Asked, sorted_rows
from rayplat.features.join.parts import Part
from rayplat.features.join.stretch import (
    NOTHING,
    Desk,
    Reading,
    Stretch,
    begun,
    chosen,
    decode,
    joined,
    rising,
)
from rayplat.features.join.turns import Turns, in_threads
from rayplat.features.join.ways import END, Step, Way

# More than the processors: who waits for his turn, or for the questions, holds a decoded part.
_READERS = 4
_FIRST = np.iinfo(np.int64).min
# Positions that 32 bits can say.
_PLACES = 1 << 31
_Best = tuple[Int64s, Int64s, Int64s, Int64s, Int64s]


@dataclass(frozen=True, slots=True)
class Winners:
    """The row of each question, in the order of `Asked`: its position (-1: none) and its event time.

    No event times where nobody wanted them.
    """

    row: Int64s
    event: Int64s


class Tied(Exception):  # noqa: N818  # no error: a sign to read more
    """Two rows of an entity have equal times, and what decides between them was not read."""


def winners(
    parts: Sequence[Part],
    path: Way,
    reading: Reading,
    sorting: "Future[Asked]",
    *,
    ties_matter: bool,
    settled: Callable[[], bool] = lambda: False,
    aged: bool = True,
) -> Winners:
    """Find the row that answers each question.

    Args:
        parts: the source; `path`: how it is read.
        reading: what is read of each part.
        sorting: gives the questions; parts are decoded meanwhile.
        ties_matter: the table has offsets, which decide between rows of equal times, but `reading` leaves
            them out.
        settled: asked where there are such rows: whether their positions say what their offsets would.
        aged: whether the event times of the rows are wanted; else they may be left out.

    Raises:
        Tied: `ties_matter`, there are such rows, and positions do not settle which one is greater.
        UserError: a time column is no UTC time.
    """
    walkers: list[_Ordered | _Apart] = []
    counted = sum(part.rows for part in parts) < _PLACES
    plain = counted and path.alike and not (aged or ties_matter or reading.ties or reading.known)
    turns = Turns()
    desks = threading.local()

    def walker() -> _Ordered | _Apart:
        if not walkers:
            asked = sorting.result()
            if path.ordered:
                walkers.append(_Ordered(reading, asked, plain=plain))
            else:
                walkers.append(_Apart(reading, asked, path.enough))
        return walkers[0]

    def read(number: int, step: Step) -> None:
        with turns.of(number) as turn:
            stretch = decode(parts[step.part], step.first, reading, desks.__dict__.setdefault("desk", Desk()))
            turn.wait()
            if walker().walk(stretch, step.horizon) and ties_matter and not settled():
                raise Tied

    in_threads([partial(read, number, step) for number, step in enumerate(path.steps)], _READERS)
    if walker().finish() and ties_matter and not settled():
        raise Tied
    return walker().found


class _Ordered:
    """Parts whose rows become visible one part after the other, but for a few that wait.

    `plain`: nothing but time and position tells rows apart, and of equal times the last one has the greater
    position: the last row wins.
    """

    def __init__(self, reading: Reading, asked: Asked, *, plain: bool) -> None:
        self._asked, self.found, self._plain = asked, _nothing(asked, aged=not plain), plain
        count = asked.keys.count
        self._held: Values = np.full(count + 1, -1, np.int32) if plain else _empty(reading, count)
        self._begin = 0
        self._waiting: Stretch | None = None

    def walk(self, stretch: Stretch, horizon: int) -> bool:
        """Take in the rows of a part; says whether two rows of an entity had equal times."""
        tied, waiting, self._waiting = False, self._waiting, None
        in_order, least, greatest = rising(stretch)
        if waiting is not None:
            if rising(waiting)[2] <= least:
                # Nothing new comes before what waits: that is walked first, and the new rows are not copied.
                tied = self._take(waiting, _order(waiting), least)
            else:
                stretch = joined(waiting, stretch)
                in_order, _, greatest = rising(stretch)
        walk = NOTHING if in_order else sorted_rows(stretch.visible())
        if greatest >= horizon != END:
            visible = stretch.visible()
            if in_order:
                now = int(np.searchsorted(visible, horizon))
                self._waiting = chosen(stretch, np.arange(now, len(visible)))
                stretch = begun(stretch, now)
            else:
                now = int(np.searchsorted(visible[walk], horizon))
                self._waiting, walk = chosen(stretch, np.sort(walk[now:])), walk[:now]
                # An empty walk would mean all rows.
                stretch = stretch if now else begun(stretch, 0)
        return self._take(stretch, walk, horizon) or tied

    def _take(self, stretch: Stretch, walk: Int64s, horizon: int) -> bool:
        if self._plain:
            self._begin = _follow(
                stretch, walk, self._held, self._asked, self.found.row, self._begin, horizon
            )
            return False
        self._begin, tied = _sweep(stretch, walk, self._held, self._asked, self.found, self._begin, horizon)
        return tied

    def finish(self) -> bool:
        """Answer what still waits; where the last part was read, nothing does."""
        none = Stretch(0, np.empty(0, np.int32), *([NOTHING] * 5))
        last = none if self._waiting is None else self._waiting
        return self._take(last, _order(last), END)


class _Apart:
    """Parts in any order: each stretch is walked by itself."""

    def __init__(self, reading: Reading, asked: Asked, enough: int) -> None:
        self._reading, self._asked, self.found = reading, asked, _nothing(asked)
        self._enough = enough
        count = len(asked.at)
        zeros = (np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64))
        self._best: _Best = (self.found.event, *zeros, self.found.row)
        self._waiting: Stretch | None = None

    def walk(self, stretch: Stretch, horizon: int) -> bool:
        """Take in the rows of a part; says whether two rows of an entity had equal times."""
        del horizon
        if self._waiting is not None:
            stretch, self._waiting = joined(self._waiting, stretch), None
        if len(stretch.code) < self._enough:
            self._waiting = chosen(stretch, np.arange(len(stretch.code)))
            return False
        return self._take(stretch)

    def finish(self) -> bool:
        """Take in what still waits."""
        return self._waiting is not None and self._take(self._waiting)

    def _take(self, stretch: Stretch) -> bool:
        here = _nothing(self._asked)
        local = replace(stretch, first=0, position=NOTHING)
        walk = NOTHING if rising(stretch)[0] else sorted_rows(stretch.visible())
        _, tied = _sweep(
            local, walk, _empty(self._reading, self._asked.keys.count), self._asked, here, 0, END
        )
        apart = (stretch.first, stretch.known, stretch.offset, stretch.partition, stretch.position)
        return bool(kernels.improve(here.row, here.event, *apart, self._best)) or tied


def _nothing(asked: Asked, *, aged: bool = True) -> Winners:
    count = len(asked.at)
    return Winners(np.full(count, -1), np.full(count if aged else 0, _FIRST))


def _empty(reading: Reading, entities: int) -> Int64s:
    """No row yet, for each entity; as wide as rows are told apart by."""
    width = 5 if reading.ties else 3 if reading.known else 2
    held = np.full((entities, width), _FIRST)
    held[:, 0] = -1
    return held


def _order(stretch: Stretch) -> Int64s:
    """The rows in the order in which they become visible; empty: as they stand."""
    return NOTHING if rising(stretch)[0] else sorted_rows(stretch.visible())


def _follow(  # noqa: PLR0917 - private, and close to the kernel
    stretch: Stretch, walk: Int64s, held: Values, asked: Asked, row: Int64s, begin: int, horizon: int
) -> int:
    rows = chosen(stretch, walk) if len(walk) else stretch
    questions = (asked.at, asked.code)
    place = (rows.position, rows.first)
    return int(kernels.follow(rows.code, rows.event, *place, held, questions, row, begin, horizon))


def _sweep(  # noqa: PLR0917 - private, and close to the kernel
    stretch: Stretch, walk: Int64s, held: Int64s, asked: Asked, found: Winners, begin: int, horizon: int
) -> tuple[int, bool]:
    if not (len(walk) or len(stretch.offset) or len(stretch.position)):
        begin, tied = kernels.march(
            stretch.code,
            stretch.event,
            stretch.known,
            stretch.first,
            held,
            (asked.at, asked.code),
            (found.row, found.event),
            begin,
            horizon,
        )
        return int(begin), bool(tied)
    begin, tied = kernels.sweep(
        walk,
        stretch.code,
        stretch.event,
        stretch.known,
        stretch.offset,
        stretch.partition,
        stretch.position,
        stretch.first,
        held,
        (asked.at, asked.code),
        (found.row, found.event),
        begin,
        horizon,
    )
    return int(begin), bool(tied)

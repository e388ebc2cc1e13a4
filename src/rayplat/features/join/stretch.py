"""A stretch of source rows, decoded to what the order of rows depends on: entity, times, offset, partition.

Knows how a part becomes arrays; it does not know questions.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rayplat.core.project.table import Table
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import BEGINNING, Int64s
from rayplat.features.join import arrays, kernels
from rayplat.features.join.keys import Codes, Keys
from rayplat.features.join.parts import BATCH, Packed, Part, unpack

NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of each part.

    Attributes:
        table: the declaration of the source.
        entity: its key columns.
        keys: who is asked about.
        ties: the system columns that decide between rows of equal times; empty: the position alone does.
    """

    table: Table
    entity: tuple[str, ...]
    keys: Keys
    ties: tuple[str, ...]

    @property
    def event(self) -> str | None:
        """The column of event times."""
        return self.table.event_time or self.table.known_at

    @property
    def known(self) -> str | None:
        """The column of known times, where it is another one than that of event times."""
        return None if self.table.told_by == self.event else self.table.told_by


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of a source as arrays of one length, but for those that are empty (see `kernels.sweep`).

    Attributes:
        first: the position of the first row in the source; the others follow, unless `position` is given.
        code: entities; negative: a null in key or times, or nobody asks.
    """

    first: int
    code: Codes
    event: Int64s
    known: Int64s
    offset: Int64s
    partition: Int64s
    position: Int64s

    def visible(self) -> Int64s:
        """The time from which each row is visible."""
        return np.maximum(self.event, self.known) if len(self.known) else self.event


class Desk:
    """Arrays that one thread decodes into again and again: fresh memory costs more than the decoding."""

    def __init__(self) -> None:
        self._arrays: dict[str, arrays.Values] = {}

    def take(self, name: str, rows: int, kind: type) -> arrays.Values:
        """An array of at least `rows` rows; what it held is lost."""
        held = self._arrays.get(name)
        if held is None or len(held) < rows:
            held = self._arrays[name] = np.empty(rows, kind)
        return held[:rows]


def decode(part: Part, first: int, reading: Reading, desk: Desk) -> Stretch:
    """Read one part.

    Args:
        part: the part; `first`: the position of its first row in the source.
        reading: what is read of it.
        desk: of this thread. The arrays of the stretch are good until it is used again.

    Raises:
        UserError: a time column is no UTC time.
    """
    rows = part.rows
    code = desk.take("\0code", rows, np.int32)
    times = [name for name in (reading.event, reading.known) if name]
    held = {name: desk.take(name, rows, np.int64) for name in (*times, *reading.ties)}
    pages = {name: part.packed(name) for name in dict.fromkeys([*reading.entity, *held])}
    key = pages[reading.entity[0]] if len(reading.entity) == 1 else None
    if key is not None:
        _numbered(key, reading.keys, code, desk)
    for name, out in held.items():
        if (column := pages[name]) is not None:
            unpack(column, out)
    keyed = list(reading.entity) if key is None else []
    rest = {name: out for name, out in held.items() if pages[name] is None}
    done = 0
    for batch in part.batches(list(dict.fromkeys([*keyed, *rest]))) if keyed or rest else ():
        end = done + batch.num_rows
        if keyed:
            code[done:end] = reading.keys.codes([batch.column(name) for name in keyed])
        for name, out in rest.items():
            _fill(out[done:end], batch.column(name), name, reading, code[done:end])
        done = end
    if reading.event is None:
        event = desk.take("\0event", rows, np.int64)
        event[:] = BEGINNING
    else:
        event = held[reading.event]
    none = NOTHING if not reading.ties else np.zeros(rows, np.int64)
    return Stretch(
        first,
        code,
        event,
        held[reading.known] if reading.known else NOTHING,
        held.get(OFFSET, none),
        held.get(PARTITION, none),
        NOTHING,
    )


def _numbered(column: Packed, keys: Keys, code: Codes, desk: Desk) -> None:
    """Number the entities of a packed key, some pages at a time: their values are still in the cache then."""
    held, done, first = desk.take("\0key", BATCH + max(column.rows, default=0), np.int64), 0, 0
    for page, rows in enumerate(column.rows):
        column.into(page, held[done - first : done - first + rows])
        done += rows
        if done - first >= BATCH or done == len(code):
            code[first:done] = keys.codes([arrays.column_of(held[: done - first], column.kind, None)])
            first = done


def _fill(out: Int64s, column: pa.Array, name: str, reading: Reading, code: Codes) -> None:
    if name in reading.ties:
        out[:] = arrays.integers(column)
        return
    out[:] = arrays.micros(column, name, f"the rows of {reading.table.name!r}")
    present = arrays.present(column)
    if present is not None:
        code[~present] = -1
        # A row without a time is never seen; it must not disturb the order of the others either.
        out[~present] = BEGINNING


def joined(held: Stretch, new: Stretch) -> Stretch:
    """Two stretches as one, whose rows carry their positions, in a memory of its own."""
    return Stretch(
        0,
        np.concatenate([held.code, new.code]),
        np.concatenate([held.event, new.event]),
        np.concatenate([held.known, new.known]),
        np.concatenate([held.offset, new.offset]),
        np.concatenate([held.partition, new.partition]),
        np.concatenate([_positions(held), _positions(new)]),
    )


def chosen(stretch: Stretch, rows: Int64s) -> Stretch:
    """Some rows of a stretch, in a memory of their own."""

    def of(values: Int64s) -> Int64s:
        return values[rows] if len(values) else NOTHING

    return Stretch(
        0,
        stretch.code[rows],
        of(stretch.event),
        of(stretch.known),
        of(stretch.offset),
        of(stretch.partition),
        _positions(stretch)[rows],
    )


def begun(stretch: Stretch, rows: int) -> Stretch:
    """The first rows of a stretch, in the same memory."""
    return Stretch(
        stretch.first,
        stretch.code[:rows],
        stretch.event[:rows],
        stretch.known[:rows],
        stretch.offset[:rows],
        stretch.partition[:rows],
        stretch.position[:rows],
    )


def _positions(stretch: Stretch) -> Int64s:
    if len(stretch.position):
        return stretch.position
    return np.arange(stretch.first, stretch.first + len(stretch.code))


def rising(stretch: Stretch) -> tuple[bool, int, int]:
    """Whether the rows stand in the order in which they become visible; first and last such time."""
    sorted_, least, greatest = kernels.rising(stretch.event, stretch.known)
    return bool(sorted_), int(least), int(greatest)

"""A stretch of source rows, decoded to what the order of rows depends on: entity, times, offset, partition.

Knows how a part becomes arrays; it does not know questions.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from rayplat.core.project.table import Table
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import BEGINNING, Int64s
from rayplat.features.join import arrays, kernels
from rayplat.features.join.keys import Codes, Keys
from rayplat.features.join.parts import Part

NOTHING = np.empty(0, np.int64)
ALL_THERE = np.empty(0, np.uint8)

# Rows of a batch: a part of no more is used where it was decoded, without a copy.
_WHOLE = 1 << 18


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of each part.

    Attributes:
        table: the declaration of the source.
        entity: its key columns.
        keys: who is asked about.
        ties: the system columns that decide between rows of equal times; empty: the position alone does.
        carried: columns whose values travel with the rows (see `carried`).
    """

    table: Table
    entity: tuple[str, ...]
    keys: Keys
    ties: tuple[str, ...]
    carried: tuple[str, ...] = ()

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

    Nobody writes into them: kernels are compiled once for arrays that are only read.

    Attributes:
        first: the position of the first row in the source; the others follow, unless `position` is given.
        code: entities; negative: a null in key or times, or nobody asks.
        values: what is carried, as integers; `lacking`: the bits of those that are null.
    """

    first: int
    code: Codes
    event: Int64s
    known: Int64s
    offset: Int64s
    partition: Int64s
    position: Int64s
    values: tuple[Int64s, ...] = ()
    lacking: arrays.Values = field(default_factory=ALL_THERE.view)

    def __post_init__(self) -> None:
        for name in ("code", "event", "known", "offset", "partition", "position", "lacking"):
            object.__setattr__(self, name, arrays.frozen(getattr(self, name).view()))
        object.__setattr__(self, "values", tuple(arrays.frozen(values.view()) for values in self.values))

    def visible(self) -> Int64s:
        """The time from which each row is visible."""
        return np.maximum(self.event, self.known) if len(self.known) else self.event


class Desk:
    """Arrays that one thread decodes into again and again: fresh memory costs more than the decoding."""

    def __init__(self) -> None:
        self._arrays: dict[str, arrays.Values] = {}

    def take(self, name: str, rows: int, kind: np.dtype[Any]) -> arrays.Values:
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
    times = [name for name in (reading.event, reading.known) if name]
    wanted = list(dict.fromkeys([*reading.entity, *times, *reading.ties, *reading.carried]))
    held: dict[str, arrays.Values] = {}
    done = 0
    for batch in part.batches(wanted, _WHOLE):
        columns = _decoded(batch, reading)
        if batch.num_rows == part.rows:
            held = columns  # all there is: used where it lies
            continue
        held = held or {name: desk.take(name, part.rows, values.dtype) for name, values in columns.items()}
        for name, values in columns.items():
            held[name][done : done + batch.num_rows] = values
        done += batch.num_rows
    return _stretch(first, part.rows, held, reading)


_CODE, _LACKING, _VALUE = "\0code", "\0lacking", "\0value:"


def _decoded(batch: pa.RecordBatch, reading: Reading) -> dict[str, arrays.Values]:
    """A batch's columns by what they are to the stretch."""
    code = reading.keys.codes([batch.column(name) for name in reading.entity])
    made: dict[str, arrays.Values] = {_CODE: code}
    for name in (reading.event, reading.known):
        if name:
            made[name] = _times(batch.column(name), name, reading, code)
    for name in reading.ties:
        made[name] = arrays.integers(batch.column(name))
    lacking = np.zeros(batch.num_rows if reading.carried else 0, np.uint8)
    for position, name in enumerate(reading.carried):
        column = batch.column(name)
        made[_VALUE + name] = arrays.bits(column).astype(np.int64, copy=False)
        present = arrays.present(column)
        if present is not None:
            lacking |= (~present).view(np.uint8) << position
    made[_LACKING] = lacking
    return made


def _times(column: pa.Array, name: str, reading: Reading, code: Codes) -> Int64s:
    times = arrays.micros(column, name, f"the rows of {reading.table.name!r}")
    present = arrays.present(column)
    if present is None:
        return times
    code[~present] = -1
    # A row without a time is never seen; it must not disturb the order of the others either.
    return np.where(present, times, BEGINNING)


def _stretch(first: int, rows: int, held: dict[str, arrays.Values], reading: Reading) -> Stretch:
    def of(name: str | None) -> Int64s:
        return NOTHING if name is None else held.get(name, NOTHING)

    def filled(name: str | None, value: int) -> Int64s:
        return held[name] if name in held else np.full(rows, value)

    lacking = held.get(_LACKING, ALL_THERE)
    return Stretch(
        first,
        held[_CODE] if held else np.empty(0, np.int32),
        filled(reading.event, BEGINNING),
        of(reading.known),
        filled(OFFSET, 0) if reading.ties else NOTHING,
        filled(PARTITION, 0) if reading.ties else NOTHING,
        NOTHING,
        tuple(of(_VALUE + name) for name in reading.carried),
        lacking if lacking.any() else ALL_THERE,
    )


def nobody(carries: int) -> Stretch:
    """A stretch without rows, of so many columns that are carried."""
    code, none = np.empty(0, np.int32), NOTHING
    return Stretch(0, code, none, none, none, none, none, values=(NOTHING,) * carries)


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
        tuple(np.concatenate(both) for both in zip(held.values, new.values, strict=True)),
        np.concatenate([_lacking(held), _lacking(new)])
        if len(held.lacking) or len(new.lacking)
        else ALL_THERE,
    )


def _lacking(stretch: Stretch) -> arrays.Values:
    return stretch.lacking if len(stretch.lacking) else np.zeros(len(stretch.code), np.uint8)


def chosen(stretch: Stretch, rows: Int64s) -> Stretch:
    """Some rows of a stretch, in a memory of their own."""

    def of(values: Int64s) -> Int64s:
        return values[rows] if len(values) else values

    return Stretch(
        0,
        stretch.code[rows],
        of(stretch.event),
        of(stretch.known),
        of(stretch.offset),
        of(stretch.partition),
        _positions(stretch)[rows],
        tuple(of(values) for values in stretch.values),
        of(stretch.lacking),
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
        tuple(values[:rows] for values in stretch.values),
        stretch.lacking[:rows],
    )


def _positions(stretch: Stretch) -> Int64s:
    if len(stretch.position):
        return stretch.position
    return np.arange(stretch.first, stretch.first + len(stretch.code))


def rising(stretch: Stretch) -> tuple[bool, int, int]:
    """Whether the rows stand in the order in which they become visible; first and last such time."""
    sorted_, least, greatest = kernels.rising(stretch.event, stretch.known)
    return bool(sorted_), int(least), int(greatest)

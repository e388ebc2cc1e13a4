"""Answers of one view that were read before, kept as long as nothing of the view is written.

Knows answers as of one state of the view, in columns; it does not know where in a head they stand, nor how
old an answer may be.

The store tells its state with every question, so what is remembered is what would be read again. To read it
again is a walk down the store's tree, and most of what an answer takes.
"""

import threading
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rayplat.features.instants import BEGINNING
from rayplat.features.online.store import State

MOST_BYTES = 64 << 20
"""So much of a view is remembered: about 40,000 entities of 50 numbers. Then it begins anew."""

NOTHING = (1 << 63) - 1
"""In place of an event time: nothing is known of the entity."""

_OVERHEAD = 400
"""Of an entity: the objects around its bytes, about."""


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of some entities, in columns.

    Attributes:
        events: the event time of each row, `NOTHING` where nothing is known.
        texts: the values as JSON arrays.
        rows: the values in the layout of `online.layout`; no bytes where nothing is known.
        visible: the time from which on all of it is visible, in microseconds since 1970.
    """

    events: Sequence[int]
    texts: Sequence[bytes]
    rows: Sequence[bytes]
    visible: int


class Remembered:
    """What was read in one state of a view. Safe to use from many threads.

    Each answer has a place in the columns, which stays.

    Args:
        state: of the view; None: the store tells none, and what is remembered holds for one question.
        standing: the progress of the view as the store has it; None: it was never materialized.
        most_bytes: see `MOST_BYTES`.

    Attributes:
        names: of the entities in the store.
        gaps: whether of some of them nothing is known.
        events, texts, rows, visible: see `Read`.
    """

    def __init__(self, state: State | None, standing: bytes | None, most_bytes: int = MOST_BYTES) -> None:
        self.state = state
        self.standing = standing
        self.visible = int(BEGINNING)
        self.gaps = False
        self.names: list[bytes] = []
        self.events = array("q")
        self.texts: list[bytes] = []
        self.rows: list[bytes] = []
        self._places: dict[object, int] = {}
        self._expired: dict[int, int] = {}
        self._left = most_bytes
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        """Whether it is time to begin anew."""
        return self._left < 0

    def find(self, keys: Iterable[object]) -> list[int | None]:
        """The place of each key's answer; None where it is not remembered."""
        return list(map(self._places.get, keys))

    def keep(self, keys: Sequence[object], names: Sequence[bytes], read: Read) -> None:
        """Remember the answers to keys, none of them twice."""
        with self._lock:
            first = len(self.names)
            self._append(names, read)
            # Last: who finds a place finds all that stands there.
            self._places.update(zip(keys, range(first, first + len(names)), strict=True))

    def within(self, places: Sequence[int], oldest: int, nothing: bytes) -> Sequence[int]:
        """Places with those of nothing in place of answers that are older than a time."""
        events = self.events
        if all(events[place] >= oldest for place in places):
            return places
        return [p if events[p] >= oldest else self._nothing_for(p, nothing) for p in places]

    def _nothing_for(self, place: int, nothing: bytes) -> int:
        with self._lock:
            found = self._expired.get(place)
            if found is None:
                found = self._expired[place] = len(self.names)
                self._append([self.names[place]], Read([NOTHING], [nothing], [b""], self.visible))
            return found

    def _append(self, names: Sequence[bytes], read: Read) -> None:
        self.gaps = self.gaps or NOTHING in read.events
        self.visible = max(self.visible, read.visible)
        self.events.extend(read.events)
        self.texts += read.texts
        self.rows += read.rows
        self.names += names
        self._left -= sum(map(len, read.texts)) + sum(map(len, read.rows)) + _OVERHEAD * len(names)

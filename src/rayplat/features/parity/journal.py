"""The journal: answers that stand ready in the online store, logged as they are, in the turn that sends them.

Knows the bytes of a record and when a file is full; it does not know who asks, nor how the records become
rows (`journal_rows`).

All answers of one turn of an event loop are one write, and none of them is sent before it. What is the same
for many answers (the definition, the columns, how far the view had come) stands once a file, in a record of
its own, and so do the values of an entity as long as they stay the same: an answer says where they stand.

A record, little-endian: its length without these 4 bytes (4), its kind (1). Kind 1, what many share: a JSON
object, see `About`; those of a file are numbered from 0. Kind 3, values: the number of what they share (4),
the number of entities n (4), the length of the keys (4); then the keys, a JSON array each, with a line feed
between them; n lengths (4 each); and n values of those lengths, in the layout of `online.layout`; the length
is 0 where nothing is known. The values of a file have places, counted from 0 over all its records. Kind 4, an
answer: the number of what it shares (4), the time of the question in microseconds since 1970 (8), and the
places of its values (4 each), which stand before it in the file. Kind 2 is read, and not written any more: an
answer with its values, which have places too; as kind 4 up to the time of the question, then as kind 3 from
the number of entities on.
"""

import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Protocol, TypeVar

import orjson

from rayplat.core.errors import UnavailableError
from rayplat.core.telemetry import counter
from rayplat.features.parity.backlog import Backlog
from rayplat.features.parity.spool import Spool

T = TypeVar("T")

SUFFIX = ".answers"
SHARED, WHOLE, VALUES, ANSWER = 1, 2, 3, 4
FRAME = struct.Struct("<IB")
VALUED = struct.Struct("<IBIII")
"""A whole record of kind 3 before its keys."""

ANSWERED = struct.Struct("<IBIq")
"""A whole record of kind 4 before its places."""

WHOLLY = struct.Struct("<IBIqII")
"""A whole record of kind 2 before its keys."""

_NOWHERE = 0xFFFFFFFF
_NOWHERE_YET = b"\xff\xff\xff\xff"

VECTOR_BYTES = 256
"""So much a vector counts at least among what waits: little as it takes here, the lakehouse needs time."""

MOST_ROWS = 500_000
MOST_BYTES = 32 << 20
SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class About:
    """What the answers of a view share at one standing.

    Attributes:
        view: its name.
        digest: of its definition.
        asks: the columns of the asking row that name the entity.
        features: full names, in the order of the values.
        schema: the Arrow schema of the values, as an IPC message in base64.
        snapshot_id: the snapshot up to which it was materialized.
        offsets: the next offset by partition.
    """

    view: str
    digest: str
    asks: tuple[str, ...]
    features: tuple[str, ...]
    schema: str
    snapshot_id: int | None
    offsets: dict[str, int]


class Known(Protocol):
    """Answers that stand at places, which stay. More may come behind them."""

    @property
    def standing(self) -> bytes | None:
        """The progress of the view that was read with them, as the store has it."""

    @property
    def names(self) -> Sequence[bytes]:
        """Of the entities, a JSON array each."""

    @property
    def rows(self) -> Sequence[bytes]:
        """The values of each, in the layout of `online.layout`; no bytes where nothing is known."""


@dataclass(slots=True)
class Entry:
    """The answers about one view in one request.

    Attributes:
        view: its name.
        about: tells what the answers share, by the standing.
        at_us: the time of the question, in microseconds since 1970.
        known: where the answers stand.
        places: there, of each entity.
    """

    view: str
    about: Callable[[bytes], About]
    at_us: int
    known: Known
    places: Sequence[int]


@dataclass(slots=True)
class _Told:
    """What the file has been told of a view: at which standing, under which number; and of the answers that
    are `known`, by their places there, their places in the file."""

    standing: bytes
    shared: int
    known: Known
    places: "array[int]"


class Journal:
    """The journal of one process, used by one thread. No file is made before the first answer.

    Args:
        folder: where its files are; several processes may share it.
        rows: a file is closed at about this many vectors, at `most_bytes`, or `seconds` after its first.
        backlog: what waits in the folder; None: it has its own, of journals alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
        seconds: float = SECONDS,
        backlog: Backlog | None = None,
    ) -> None:
        self._folder = folder
        self._rows = rows
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._backlog = backlog or Backlog(folder, (SUFFIX,), file_bytes=most_bytes)
        self._spool: Spool | None = None
        self._told: dict[str, _Told] = {}
        # How many records of what is shared, and how many values, the file has.
        self._shared = self._values = 0
        self._written = counter("feature_log_vectors_total", "served feature vectors in the log")

    def admit(self, entries: Sequence[Entry]) -> None:
        """Let the answers of one request be logged; asked before `write`.

        Raises:
            BacklogError: too much waits for the lakehouse; the answers must not be sent.
        """
        if entries:
            self._backlog.admit(sum(len(entry.places) for entry in entries))

    def write(self, entries: Sequence[Entry]) -> None:
        """Append answers by one write; they survive the process when it returns.

        Raises:
            UnavailableError: nothing was appended; the answers must not be sent.
        """
        parts: list[bytes] = []
        rows = 0
        try:
            spool = self._spool or self._open()
            before, beyond = spool.bytes, _beyond(spool)
            for entry in entries:
                self._add(parts, entry)
                rows += len(entry.places)
            spool.write(parts, rows)
        except BaseException as error:
            # What answers share and was told in this write is not there.
            self.roll()
            if not isinstance(error, OSError):
                raise
            raise UnavailableError(
                f"the feature log cannot be written: {error}", f"look at {self._folder}"
            ) from error
        self._written.inc(rows)
        self._backlog.add(spool.bytes - before, _beyond(spool) - beyond)
        if spool.bytes >= self._most_bytes or spool.rows >= self._rows:
            self.roll()

    def roll_if_due(self) -> None:
        """Close a file that is old enough: the lakehouse may have it."""
        if self._spool is not None and self._spool.due(self._rows, self._seconds):
            self.roll()

    def roll(self) -> None:
        """Close the file; the next answer begins another one."""
        spool, self._spool = self._spool, None
        self._told.clear()
        self._shared = self._values = 0
        if spool is not None:
            beyond = _beyond(spool)
            spool.close(spool.bytes + beyond)
            self._backlog.add(beyond, -beyond)

    def _open(self) -> Spool:
        self._backlog.look()
        self._backlog.admit(0)
        self._spool = Spool(self._folder, SUFFIX)
        return self._spool

    def _add(self, parts: list[bytes], entry: Entry) -> None:
        told = self._told.get(entry.view)
        if told is None or told.known is not entry.known:
            told = self._told[entry.view] = self._tell(parts, told, entry)
        places = told.places
        missing = len(entry.known.names) - len(places)
        if missing > 0:
            places.frombytes(_NOWHERE_YET * missing)
        take = taking(entry.places)
        where = take(places)
        if max(where) == _NOWHERE:
            self._add_values(parts, told, entry)
            where = take(places)
        body = array("I", where).tobytes()
        parts += ANSWERED.pack(ANSWERED.size - 4 + len(body), ANSWER, told.shared, entry.at_us), body

    def _tell(self, parts: list[bytes], before: _Told | None, entry: Entry) -> _Told:
        """Begin with other answers of a view, which may be of another standing."""
        standing = entry.known.standing or b""
        if before is not None and before.standing == standing:
            return _Told(standing, before.shared, entry.known, array("I"))
        body = orjson.dumps(entry.about(standing))
        parts += FRAME.pack(1 + len(body), SHARED), body
        self._shared += 1
        return _Told(standing, self._shared - 1, entry.known, array("I"))

    def _add_values(self, parts: list[bytes], told: _Told, entry: Entry) -> None:
        """Write those values of an entry that do not stand in the file yet."""
        new = [place for place in dict.fromkeys(entry.places) if told.places[place] == _NOWHERE]
        for place in new:
            told.places[place] = self._values
            self._values += 1
        keys = b"\n".join([entry.known.names[place] for place in new])
        values = [entry.known.rows[place] for place in new]
        sizes = array("I", map(len, values)).tobytes()
        size = VALUED.size - 4 + len(keys) + len(sizes) + sum(map(len, values))
        parts += VALUED.pack(size, VALUES, told.shared, len(new), len(keys)), keys, sizes, *values


def taking(places: Sequence[int]) -> Callable[[Sequence[T]], Sequence[T]]:
    """Takes what stands at places out of a column: in one call, which for many is twice as fast."""
    return itemgetter(*places) if len(places) > 1 else lambda column: [column[place] for place in places]


def _beyond(spool: Spool) -> int:
    """What a file counts for beyond its bytes."""
    return max(0, spool.rows * VECTOR_BYTES - spool.bytes)

"""The journal: answers that stand ready in the online store, logged as they are, in the turn that sends them.

Knows the bytes of a record and when a file is full; it does not know who asks, nor how the records become
rows (`journal_rows`).

All answers of one turn of an event loop are one write, and none of them is sent before it. A record holds the
keys and the stored values of a request; what is the same for many of them (the definition, the columns, how
far the view had come) stands once a file, in a record of its own.

A record, little-endian: its length without these 4 bytes (4), its kind (1). Kind 1, what many share: a JSON
object, see `About`; those of a file are numbered from 0. Kind 2, an answer: the number of what it shares (4),
the time of the question in microseconds since 1970 (8), the number of keys n (4), the length of the keys (4);
then the keys, a JSON array each, with a line feed between them; n lengths (4 each); and n values of those
lengths, in the layout of `online.layout`; the length is 0 where nothing is known.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from rayplat.core.errors import UnavailableError
from rayplat.core.telemetry import counter
from rayplat.features.parity.backlog import MOST_WAITING_BYTES, MUCH_WAITING_BYTES, Backlog
from rayplat.features.parity.spool import Spool

SUFFIX = ".answers"
SHARED, ANSWER = 1, 2
FRAME = struct.Struct("<IB")
ANSWERED = struct.Struct("<IBIqII")
"""A whole record of kind 2 before its keys."""

MOST_ROWS = 50_000
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


@dataclass(slots=True)
class Entry:
    """The answers about one view in one request.

    Attributes:
        view: its name.
        standing: the progress of the view that was read with the values, as the store has it.
        about: tells what the answers share, by `standing`.
        at_us: the time of the question, in microseconds since 1970.
        names: of the entities, with a line feed between them.
        sizes: of the values of each entity, an unsigned integer of 4 bytes; 0 where nothing is known.
        values: of all entities, one behind the other.
    """

    view: str
    standing: bytes
    about: Callable[[bytes], About]
    at_us: int
    names: bytes
    sizes: bytes
    values: bytes

    @property
    def rows(self) -> int:
        """How many entities."""
        return len(self.sizes) // 4


class Journal:
    """The journal of one process, used by one thread. No file is made before the first answer.

    Args:
        folder: where its files are; several processes may share it.
        rows: a file is closed at about this many vectors, at `most_bytes`, or `seconds` after its first.
        much_waiting, most_waiting: how many bytes may wait in the folder, see `backlog`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
        seconds: float = SECONDS,
        much_waiting: int = MUCH_WAITING_BYTES,
        most_waiting: int = MOST_WAITING_BYTES,
    ) -> None:
        self._folder = folder
        self._rows = rows
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._backlog = Backlog(folder, SUFFIX, min(much_waiting, most_waiting), most_waiting, most_bytes)
        self._spool: Spool | None = None
        # By view, the standing that was told last, and the number under which it was.
        self._told: dict[str, tuple[bytes, int]] = {}
        self._next = 0
        self._written = counter("feature_log_vectors_total", "served feature vectors in the log")

    def admit(self, entries: Sequence[Entry]) -> None:
        """Let the answers of one request be logged; asked before `write`.

        Raises:
            BacklogError: too much waits for the lakehouse; the answers must not be sent.
        """
        if entries:
            self._backlog.admit(sum(entry.rows for entry in entries))

    def write(self, entries: Sequence[Entry]) -> None:
        """Append answers by one write; they survive the process when it returns.

        Raises:
            UnavailableError: nothing was appended; the answers must not be sent.
        """
        parts: list[bytes] = []
        rows = 0
        try:
            spool = self._spool or self._open()
            before = spool.bytes
            for entry in entries:
                self._add(parts, entry)
                rows += entry.rows
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
        self._backlog.add(spool.bytes - before)
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
        self._next = 0
        if spool is not None:
            spool.close()

    def _open(self) -> Spool:
        self._backlog.look()
        self._backlog.admit(0)
        self._spool = Spool(self._folder, SUFFIX)
        return self._spool

    def _add(self, parts: list[bytes], entry: Entry) -> None:
        told = self._told.get(entry.view)
        if told is None or told[0] != entry.standing:
            body = orjson.dumps(entry.about(entry.standing))
            told = self._told[entry.view] = entry.standing, self._next
            self._next += 1
            parts += FRAME.pack(1 + len(body), SHARED), body
        names, sizes, values = entry.names, entry.sizes, entry.values
        size = ANSWERED.size - 4 + len(names) + len(sizes) + len(values)
        head = ANSWERED.pack(size, ANSWER, told[1], entry.at_us, entry.rows, len(names))
        parts += head, names, sizes, values

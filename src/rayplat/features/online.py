"""The online store: stored rows by view and entity, and how far each view has come.

Knows transactions and concurrent readers; it does not know what the rows mean, nor how they are merged
(`online_rows`), so that every store keeps the same rows.
"""

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from rayplat.core.errors import ConflictError, UnavailableError, UserError
from rayplat.core.secrets import mask
from rayplat.core.settings import Settings

_BUSY_MS = 10_000
_TABLES = """
CREATE TABLE IF NOT EXISTS progress (
    view TEXT PRIMARY KEY, snapshot INTEGER, offsets TEXT NOT NULL, schema BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS entry (
    view TEXT NOT NULL, entity TEXT NOT NULL, newest INTEGER NOT NULL, rows BLOB NOT NULL,
    PRIMARY KEY (view, entity)
);
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a view has come.

    Attributes:
        snapshot_id: the last snapshot of the source that was read to its end; None where there is none.
        offsets: the next offset to read, by partition; empty where the source is read whole.
        schema: the Arrow schema of the stored rows, as an IPC message.
    """

    snapshot_id: int | None
    offsets: Mapping[str, int]
    schema: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """The stored rows of one entity.

    Attributes:
        newest: the latest known time ever written for the entity, in microseconds.
        rows: source rows as one Arrow IPC record batch, without its schema.
    """

    newest: int
    rows: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store has of a view: its progress (None: never materialized) and the entries asked for."""

    progress: Progress | None
    entries: Mapping[str, Entry]


class OnlineStore(Protocol):
    """Keeps entries by view and entity. Safe to use from many threads and processes.

    A write is one transaction: entries and progress, or neither. Readers see whole writes only, are never
    blocked by a writer, and see one moment in all views of one `read`.
    """

    def read(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, Stored]:
        """The progress of views and the entries of entities, by view; entities without entry are left out."""

    def write(
        self,
        view: str,
        entries: Mapping[str, Entry],
        progress: Progress,
        *,
        expected: Progress | None,
        replace: bool = False,
    ) -> None:
        """Write entries and progress of a view.

        Args:
            expected: the progress that the entries were made from.
            replace: whether entities that are not in `entries` are removed.

        Raises:
            ConflictError: the stored progress is not `expected`: another process has written since.
        """

    def close(self) -> None:
        """Give back connections. The store can be used again afterwards."""


class SqliteOnlineStore:
    """The embedded online store: one SQLite file in WAL mode.

    Args:
        url: `sqlite:///` and the path of the file; made when it does not exist.

    Raises:
        UserError: the url is not of that form.
    """

    def __init__(self, url: str) -> None:
        path = url.removeprefix("sqlite:///")
        if path == url or not path or path == ":memory:":
            raise UserError(
                f"{url!r} is not an embedded online store", "give sqlite:/// and the path of a file"
            )
        self._path = Path(path)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []
        self._generation = 0

    def read(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, Stored]:
        """See `OnlineStore.read`."""
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            progress = _read_progress(connection, wanted)
            return {
                view: Stored(progress.get(view), _read_entries(connection, view, entities))
                for view, entities in wanted.items()
            }
        finally:
            connection.execute("ROLLBACK")

    def write(
        self,
        view: str,
        entries: Mapping[str, Entry],
        progress: Progress,
        *,
        expected: Progress | None,
        replace: bool = False,
    ) -> None:
        """See `OnlineStore.write`."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _read_progress(connection, [view]).get(view)
            if found != expected:
                raise ConflictError(
                    f"the online values of {view!r} stand at {_brief(found)}, not at {_brief(expected)}",
                    "another process materializes the same view; run this one again",
                )
            if replace:
                connection.execute("DELETE FROM entry WHERE view = ?", (view,))
            rows = ((view, entity, entry.newest, entry.rows) for entity, entry in entries.items())
            connection.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?)", rows)
            offsets = orjson.dumps(dict(progress.offsets), option=orjson.OPT_SORT_KEYS).decode()
            connection.execute(
                "INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?)",
                (view, progress.snapshot_id, offsets, progress.schema),
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """See `OnlineStore.close`."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
            self._generation += 1

    def _connection(self) -> sqlite3.Connection:
        """This thread's own connection: SQLite's transactions belong to a connection."""
        found: tuple[int, sqlite3.Connection] | None = getattr(self._local, "connection", None)
        if found is not None and found[0] == self._generation:
            return found[1]
        connection = _connect(self._path)
        with self._lock:
            self._open.append(connection)
            self._local.connection = (self._generation, connection)
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Closing from another thread is allowed; use stays with the thread that opened it.
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may lose the last commits but never splits one: progress goes back with the values,
        # and materializing again brings them.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_TABLES)
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(
            f"the online store {path} cannot be opened: {error}", "check the path, its owner and the disk"
        ) from error
    return connection


def _read_progress(connection: sqlite3.Connection, views: Iterable[str]) -> dict[str, Progress]:
    wanted = orjson.dumps(list(views)).decode()
    rows = connection.execute(
        "SELECT view, snapshot, offsets, schema FROM progress WHERE view IN (SELECT value FROM json_each(?))",
        (wanted,),
    )
    return {
        view: Progress(snapshot, orjson.loads(offsets), schema) for view, snapshot, offsets, schema in rows
    }


def _read_entries(connection: sqlite3.Connection, view: str, entities: Sequence[str]) -> dict[str, Entry]:
    if not entities:
        return {}
    wanted = orjson.dumps(list(entities)).decode()
    rows = connection.execute(
        "SELECT entity, newest, rows FROM entry"
        " WHERE view = ? AND entity IN (SELECT value FROM json_each(?))",
        (view, wanted),
    )
    return {entity: Entry(newest, data) for entity, newest, data in rows}


def _brief(progress: Progress | None) -> str:
    return (
        "the beginning" if progress is None else f"snapshot {progress.snapshot_id}, {dict(progress.offsets)}"
    )


def open_online(settings: Settings) -> OnlineStore:
    """The online store that `settings.online` names.

    Raises:
        UserError: no store goes by that scheme.
    """
    scheme = settings.online.partition("://")[0]
    if scheme == "sqlite":
        return SqliteOnlineStore(settings.online)
    raise UserError(
        f"there is no online store for {scheme!r} ({mask(settings.online)})",
        "set online to sqlite:/// and a path",
    )

"""The embedded online store: one LMDB file, mapped into the memory of every process that reads it.

Knows LMDB's transactions, its map and its lock table; it does not know what heads and parts mean.

A reader works on the map without a lock and without a copy of pages; a writer never blocks it. A commit is
in the operating system's hands when it returns, not yet on the disk (`sync` off): a kill of a process loses
nothing and breaks nothing, whenever it comes. Only a machine that goes down can leave half of a commit;
`unsynced` tells when that may have happened, and the store is then begun anew: all of it is in the lakehouse,
and the next materialization brings it.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rayplat.core.errors import UnavailableError, UserError
from rayplat.features.online.store import (
    Change,
    Part,
    Progress,
    Range,
    T,
    changed_since,
    check_progress,
    decode_progress,
    encode_progress,
)
from rayplat.features.online.unsynced import Mark

if TYPE_CHECKING:
    import lmdb

_Transaction = Any
"""A transaction of LMDB whose values are bytes (its types allow for views of memory, too)."""

MAP_BYTES = 1 << 30
"""The map of a new store; it is doubled when it is full. Address space, not memory and not disk."""

_READERS = 1024
_LONGEST_ENTITY = 384
_PROGRESS, _HEAD, _PART = b"\0", b"\1", b"\2"


class LmdbOnlineStore:
    """The embedded online store.

    Args:
        url: `lmdb:///` and the path of a folder; made when it does not exist.
        map_bytes: how much a new store holds before its map grows.

    Raises:
        UserError: the url is not of that form.
    """

    def __init__(self, url: str, map_bytes: int = MAP_BYTES) -> None:
        path = url.removeprefix("lmdb:///")
        if path == url or not path:
            raise UserError(
                f"{url!r} is not an embedded online store", "give lmdb:/// and the path of a folder"
            )
        self._path = Path(path)
        self._map_bytes = map_bytes
        self._held: _Environment | None = None
        self._opening = threading.Lock()

    def read(self, reading: Callable[["_Moment"], T]) -> T:
        """See `OnlineStore.read`."""
        with self._environment().reading() as txn:
            return reading(_Moment(txn))

    def heads(self, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
        """See `OnlineStore.heads`."""
        with self._environment().reading() as txn:
            return _heads(txn, view, entities)

    def standing(self, view: str, entities: Sequence[bytes]) -> tuple[bytes | None, list[bytes | None]]:
        """See `OnlineStore.standing`."""
        with self._environment().reading() as txn:
            return txn.get(_PROGRESS + view.encode()), _heads(txn, view, entities)

    def write(
        self,
        view: str,
        changes: Mapping[bytes, Change],
        progress: Progress,
        *,
        expected: Progress | None,
        replace: bool = False,
    ) -> None:
        """See `OnlineStore.write`."""
        prefix = _prefix(view)
        name = _PROGRESS + view.encode()

        def work(txn: _Transaction) -> None:
            found = txn.get(name)
            check_progress(view, None if found is None else decode_progress(found), expected)
            if replace:
                _delete(txn, prefix, _after(prefix))
            # In the order of their keys the pages of the tree are met one after the other.
            for entity, change in sorted(changes.items()):
                key = prefix + _HEAD + _short(entity)
                if not replace and txn.get(key) != change.before:
                    raise changed_since(view, entity)
                txn.put(key, change.head)
                of = prefix + _PART + _short(entity)
                for low, high in change.drops:
                    _delete(txn, of + low, of + high)
                for part, value in change.puts:
                    txn.put(of + part, value)
            txn.put(name, encode_progress(progress))

        self._environment().writing(work)

    def delete_entity(self, view: str, entity: bytes) -> bool:
        """See `OnlineStore.delete_entity`."""
        prefix, short = _prefix(view), _short(entity)

        def work(txn: _Transaction) -> bool:
            of = prefix + _PART + short
            parts = _delete(txn, of, _after(of))
            return bool(txn.delete(prefix + _HEAD + short)) or parts > 0

        return self._environment().writing(work)

    def drop(self, view: str) -> None:
        """See `OnlineStore.drop`."""
        prefix = _prefix(view)

        def work(txn: _Transaction) -> None:
            txn.delete(_PROGRESS + view.encode())
            _delete(txn, prefix, _after(prefix))

        self._environment().writing(work)

    def views(self) -> dict[str, Progress]:
        """See `OnlineStore.views`."""
        with self._environment().reading() as txn:
            return {
                key[1:].decode(): decode_progress(value)
                for key, value in _range(txn, _PROGRESS, _after(_PROGRESS))
            }

    def close(self) -> None:
        """See `OnlineStore.close`."""
        with self._opening:
            held, self._held = self._held, None
        if held is not None:
            held.release()

    def _environment(self) -> "_Environment":
        held = self._held
        if held is not None and held.pid == os.getpid():
            return held
        with self._opening:
            if self._held is None or self._held.pid != os.getpid():
                self._held = _Environment.of(self._path, self._map_bytes)
            return self._held


class _Moment:
    """A reader over one transaction."""

    def __init__(self, txn: _Transaction) -> None:
        self._txn = txn

    def progress(self, view: str) -> Progress | None:
        found = self._txn.get(_PROGRESS + view.encode())
        return None if found is None else decode_progress(found)

    def heads(self, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
        return _heads(self._txn, view, entities)

    def parts(self, view: str, wanted: Sequence[Range]) -> list[list[Part]]:
        prefix = _prefix(view) + _PART
        found = []
        with self._txn.cursor() as cursor:
            for entity, low, high in wanted:
                of = prefix + _short(entity)
                cut = len(of)
                found.append([(k[cut:], v) for k, v in _walk(cursor, of + low, of + high)])
        return found


class _Environment:
    """One opened store, shared by all that use it in this process: LMDB forbids to open it twice."""

    _all: ClassVar[dict[tuple[int, str], "_Environment"]] = {}
    _guard = threading.Lock()

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.pid = os.getpid()
        self._path = path
        self._users = 0
        self._active = 0
        self._growing = 0
        self._gate = threading.Condition()
        self._mark = Mark(path)
        self._env = _open(path, map_bytes, self._mark)

    @classmethod
    def of(cls, path: Path, map_bytes: int) -> "_Environment":
        """The environment of a path, for one more user of it."""
        key = (os.getpid(), os.path.realpath(path))
        with cls._guard:
            found = cls._all.get(key)
            if found is None:
                found = cls._all[key] = cls(path, map_bytes)
            found._users += 1
            return found

    def release(self) -> None:
        """Give it back; the last user closes it."""
        with self._guard:
            self._users -= 1
            if self._users == 0 and self.pid == os.getpid():
                self._all.pop((self.pid, os.path.realpath(self._path)), None)
                with self._gate:
                    self._gate.wait_for(lambda: self._active == 0)
                    self._mark.lift(lambda: self._env.sync(True))
                    self._env.close()

    @contextmanager
    def reading(self) -> Iterator[_Transaction]:
        """A transaction that reads."""
        with self._transaction(write=False) as txn:
            yield txn

    def writing(self, work: Callable[[_Transaction], T]) -> T:
        """Do `work` in a transaction that writes; a full map is doubled and the work done again."""
        import lmdb

        self._mark.set()
        while True:
            try:
                with self._transaction(write=True) as txn:
                    return work(txn)
            except lmdb.MapFullError:
                self._resize(self._env.info()["map_size"] * 2)
            except lmdb.DiskError as error:
                raise UnavailableError(
                    f"the online store {self._path} cannot be written: {error}", "check the disk"
                ) from error

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[_Transaction]:
        import lmdb

        with self._gate:
            # Readers that never pause would keep the map from growing; one that is inside already goes on.
            self._gate.wait_for(lambda: not self._growing, timeout=_PAUSE_S)
            self._active += 1
        try:
            txn = self._begin(write)
            try:
                yield txn
            except BaseException:
                txn.abort()
                raise
            txn.commit() if write else txn.abort()
        except lmdb.CorruptedError as error:
            raise UnavailableError(
                f"the online store {self._path} is damaged: {error}",
                "remove it and materialize again; the lakehouse has all of it",
            ) from error
        finally:
            with self._gate:
                self._active -= 1
                if not self._active:
                    self._gate.notify_all()

    def _begin(self, write: bool) -> _Transaction:
        import lmdb

        while True:
            try:
                return self._env.begin(write=write)
            except lmdb.MapResizedError:
                # Another process has let the map grow: take its size on, alone, and try again.
                with self._gate:
                    self._active -= 1
                    try:
                        self._alone(lambda: self._env.set_mapsize(0))
                    finally:
                        self._active += 1
            except lmdb.ReadersFullError as error:
                if not self._env.reader_check():
                    raise UnavailableError(
                        f"{_READERS} readers have the online store {self._path} open", "close some of them"
                    ) from error

    def _resize(self, size: int) -> None:
        with self._gate:
            self._alone(lambda: self._env.set_mapsize(max(size, self._env.info()["map_size"])))

    def _alone(self, grow: Callable[[], object]) -> None:
        """Let the map move, which it may while nobody reads it; the gate is held."""
        self._growing += 1
        self._gate.notify_all()
        try:
            self._gate.wait_for(lambda: self._active == 0)
            grow()
        finally:
            self._growing -= 1
            self._gate.notify_all()


_PAUSE_S = 0.05


def _open(path: Path, map_bytes: int, mark: Mark) -> "lmdb.Environment":
    import lmdb

    try:
        if path.is_file():
            raise UserError(
                f"the online store {path} is a file, not a folder that LMDB made",
                "online values are no longer kept in SQLite: name another path and materialize again",
            )
        path.mkdir(parents=True, exist_ok=True)
        mark.begin_anew_if_torn()
        data = path / "data.mdb"
        held = data.stat().st_size if data.exists() else 0
        env = lmdb.open(
            str(path),
            map_size=max(map_bytes, 2 * held),
            max_readers=_READERS,
            sync=False,
            readahead=False,
        )
        # Readers that were killed hold pages back until they are found out.
        env.reader_check()
    except (OSError, lmdb.Error) as error:
        raise UnavailableError(
            f"the online store {path} cannot be opened: {error}", "check the path, its owner and the disk"
        ) from error
    return env


_prefixes: dict[str, bytes] = {}


def _prefix(view: str) -> bytes:
    found = _prefixes.get(view)
    if found is None:
        # Never the byte of the progress keys at the start.
        found = _prefixes[view] = b"v" + blake2b(view.encode(), digest_size=11).digest()
    return found


def _heads(txn: _Transaction, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
    prefix, get = _prefix(view) + _HEAD, txn.get
    return [
        get(prefix + (entity if len(entity) <= _LONGEST_ENTITY else _short(entity))) for entity in entities
    ]


def _short(entity: bytes) -> bytes:
    """The entity as part of a key, of which LMDB takes 511 bytes; none begins another."""
    if len(entity) <= _LONGEST_ENTITY:
        return entity
    return b"\xff" + blake2b(entity, digest_size=32).digest()


def _after(prefix: bytes) -> bytes:
    """The first key after all that begin with a prefix."""
    cut = prefix.rstrip(b"\xff")
    return cut[:-1] + bytes([cut[-1] + 1])


def _range(txn: _Transaction, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor() as cursor:
        yield from _walk(cursor, low, high)


def _walk(cursor: Any, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
    if cursor.set_range(low):
        for key, value in cursor.iternext():
            if key >= high:
                return
            yield key, value


def _delete(txn: _Transaction, low: bytes, high: bytes) -> int:
    gone = 0
    with txn.cursor() as cursor:
        found = cursor.set_range(low)
        while found and cursor.key() < high:
            gone += 1
            found = cursor.delete() and bool(cursor.key())
    return gone

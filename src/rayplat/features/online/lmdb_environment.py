"""The opened environments of LMDB: one a store and process, shared by all that use it.

Knows transactions, the map that grows, and the lock table; it does not know what is kept.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rayplat.core.errors import UnavailableError, UserError
from rayplat.features.online.store import T
from rayplat.features.online.unsynced import Mark

if TYPE_CHECKING:
    import lmdb

Transaction = Any
"""A transaction of LMDB whose values are bytes (its types allow for views of memory, too)."""

_READERS = 1024
_PAUSE_S = 0.05


class Environment:
    """One opened store, shared by all that use it in this process: LMDB forbids to open it twice."""

    _all: ClassVar[dict[tuple[int, str], "Environment"]] = {}
    _guard = threading.Lock()
    _numbers = count()

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.pid = os.getpid()
        self.number = next(self._numbers)
        self._path = path
        self._users = 0
        self._active = 0
        self._growing = 0
        self._closing = False
        # The lock itself is what a reader takes: through the condition it would take as long as a read.
        self._lock = threading.Lock()
        self._gate = threading.Condition(self._lock)
        self._mark = Mark(path)
        self._env = _open(path, map_bytes, self._mark)

    @classmethod
    def of(cls, path: Path, map_bytes: int) -> "Environment":
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
                    self._closing = True
                    self._gate.wait_for(lambda: self._active == 0)
                    self._mark.lift(lambda: self._env.sync(True))
                    self._env.close()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A transaction that reads."""
        with self._transaction(write=False) as txn:
            yield txn

    def looking(self, work: Callable[[Transaction], T]) -> T:
        """Do `work` in a transaction that reads and gives views of the map, which hold until it ends."""
        import lmdb

        self._enter()
        try:
            txn = self._begin(write=False, buffers=True)
            try:
                return work(txn)
            finally:
                txn.abort()
        except lmdb.CorruptedError as error:
            raise self._damaged(error) from error
        finally:
            self._leave()

    def writing(self, work: Callable[[Transaction], T]) -> T:
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
    def _transaction(self, *, write: bool) -> Iterator[Transaction]:
        import lmdb

        self._enter()
        try:
            txn = self._begin(write=write)
            try:
                yield txn
            except BaseException:
                txn.abort()
                raise
            txn.commit() if write else txn.abort()
        except lmdb.CorruptedError as error:
            raise self._damaged(error) from error
        finally:
            self._leave()

    def _damaged(self, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"the online store {self._path} is damaged: {error}",
            "remove it and materialize again; the lakehouse has all of it",
        )

    def _enter(self) -> None:
        with self._lock:
            if self._growing:
                # Readers that never pause would keep the map from growing; one that is inside goes on.
                self._gate.wait_for(lambda: not self._growing, timeout=_PAUSE_S)
            self._active += 1

    def _leave(self) -> None:
        with self._lock:
            self._active -= 1
            if not self._active and (self._growing or self._closing):
                self._gate.notify_all()

    def _begin(self, *, write: bool, buffers: bool = False) -> Transaction:
        import lmdb

        while True:
            try:
                if buffers:
                    return self._env.begin(write=write, buffers=True)
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

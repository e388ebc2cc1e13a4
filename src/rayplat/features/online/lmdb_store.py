"""The embedded online store: one LMDB file, mapped into the memory of every process that reads it.

Knows the keys of LMDB; it does not know what heads and parts mean, nor transactions (`lmdb_environment`).

A reader works on the map without a lock and without a copy of pages; a writer never blocks it. A commit is
in the operating system's hands when it returns, not yet on the disk (`sync` off): a kill of a process loses
nothing and breaks nothing, whenever it comes. Only a machine that goes down can leave half of a commit;
`unsynced` tells when that may have happened, and the store is then begun anew: all of it is in the lakehouse,
and the next materialization brings it.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from rayplat.core.errors import UserError
from rayplat.features.online.lmdb_environment import Environment, Transaction
from rayplat.features.online.store import (
    Change,
    Held,
    Part,
    Progress,
    Range,
    State,
    T,
    changed_since,
    check_progress,
    decode_progress,
    encode_progress,
)

MAP_BYTES = 1 << 30
"""The map of a new store; it is doubled when it is full. Address space, not memory and not disk."""

_LONGEST_ENTITY = 384
_PROGRESS, _HEAD, _PART, _CHANGES = b"\0", b"\1", b"\2", b"\3"


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
        self._held: Environment | None = None
        self._opening = threading.Lock()

    def read(self, reading: Callable[["_Moment"], T]) -> T:
        """See `OnlineStore.read`."""
        with self._environment().reading() as txn:
            return reading(_Moment(txn))

    def heads(self, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
        """See `OnlineStore.heads`."""
        with self._environment().reading() as txn:
            return _heads(txn, view, entities)

    def look(self, looking: Callable[["_Glance"], T]) -> T:
        """See `OnlineStore.look`."""
        environment = self._environment()
        return environment.looking(lambda txn: looking(_Glance(txn, environment.number)))

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

        def work(txn: Transaction) -> None:
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
            _changed(txn, view)

        self._environment().writing(work)

    def delete_entity(self, view: str, entity: bytes) -> bool:
        """See `OnlineStore.delete_entity`."""
        prefix, short = _prefix(view), _short(entity)

        def work(txn: Transaction) -> bool:
            of = prefix + _PART + short
            _changed(txn, view)
            parts = _delete(txn, of, _after(of))
            return bool(txn.delete(prefix + _HEAD + short)) or parts > 0

        return self._environment().writing(work)

    def drop(self, view: str) -> None:
        """See `OnlineStore.drop`."""
        prefix = _prefix(view)

        def work(txn: Transaction) -> None:
            txn.delete(_PROGRESS + view.encode())
            _changed(txn, view)
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

    def _environment(self) -> "Environment":
        held = self._held
        if held is not None and held.pid == os.getpid():
            return held
        with self._opening:
            if self._held is None or self._held.pid != os.getpid():
                self._held = Environment.of(self._path, self._map_bytes)
            return self._held


class _Glance:
    """A short reader over one transaction that gives views of the map: what is read is mostly values."""

    __slots__ = ("_opened", "_txn")

    def __init__(self, txn: Transaction, opened: int) -> None:
        self._txn = txn
        self._opened = opened

    def state(self, view: str) -> State:
        get, name = self._txn.get, view.encode()
        # A store that was removed and begun anew counts from the beginning again, and is another opened one.
        return self._opened, bytes(get(_CHANGES + name, b"")), bytes(get(_PROGRESS + name, b""))

    def standing(self, view: str) -> bytes | None:
        found = self._txn.get(_PROGRESS + view.encode())
        return None if found is None else bytes(found)

    def heads(self, view: str, entities: Sequence[bytes]) -> list[Held]:
        if entities and max(map(len, entities)) > _LONGEST_ENTITY:
            entities = [_short(entity) for entity in entities]
        prefix = _prefix(view) + _HEAD
        return list(map(self._txn.get, [prefix + entity for entity in entities]))


class _Moment:
    """A reader over one transaction."""

    def __init__(self, txn: Transaction) -> None:
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


_prefixes: dict[str, bytes] = {}


def _prefix(view: str) -> bytes:
    found = _prefixes.get(view)
    if found is None:
        # Never the byte of the progress keys at the start.
        found = _prefixes[view] = b"v" + blake2b(view.encode(), digest_size=11).digest()
    return found


def _heads(txn: Transaction, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
    prefix, get = _prefix(view) + _HEAD, txn.get
    return [
        get(prefix + (entity if len(entity) <= _LONGEST_ENTITY else _short(entity))) for entity in entities
    ]


def _changed(txn: Transaction, view: str) -> None:
    """Count one more change of a view; it is counted on when the view was dropped."""
    name = _CHANGES + view.encode()
    txn.put(name, (int.from_bytes(txn.get(name) or b"", "little") + 1).to_bytes(8, "little"))


def _short(entity: bytes) -> bytes:
    """The entity as part of a key, of which LMDB takes 511 bytes; none begins another."""
    if len(entity) <= _LONGEST_ENTITY:
        return entity
    return b"\xff" + blake2b(entity, digest_size=32).digest()


def _after(prefix: bytes) -> bytes:
    """The first key after all that begin with a prefix."""
    cut = prefix.rstrip(b"\xff")
    return cut[:-1] + bytes([cut[-1] + 1])


def _range(txn: Transaction, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor() as cursor:
        yield from _walk(cursor, low, high)


def _walk(cursor: Any, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
    if cursor.set_range(low):
        for key, value in cursor.iternext():
            if key >= high:
                return
            yield key, value


def _delete(txn: Transaction, low: bytes, high: bytes) -> int:
    gone = 0
    with txn.cursor() as cursor:
        found = cursor.set_range(low)
        while found and cursor.key() < high:
            gone += 1
            found = cursor.delete() and bool(cursor.key())
    return gone

"""The fast path: entities whose answer stands ready in the online store, found without Polars.

Knows which views and questions can be answered from heads alone, and where in a head the answer stands;
it does not know stores, nor the forms of an answer.

A view is answered so when it holds row transforms. What stands ready is the newest answer: a question that
is older than an entity's newest row, or one about a view with defaults or required features, is left to
`get_online_features`, whose values are the same.
"""

import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import orjson

from rayplat.core.project.view import FeatureView
from rayplat.features.instants import BEGINNING
from rayplat.features.online.head import ROW, VALUES_AT
from rayplat.features.online.keys import store_key
from rayplat.features.online.store import Glance, Held, OnlineStore
from rayplat.features.parity.journal import taking
from rayplat.features.plan import plan
from rayplat.features.server.journaled import Journaled
from rayplat.features.server.remembered import NOTHING, Read, Remembered

if TYPE_CHECKING:
    from rayplat.features.parity.journal import Entry

_PLAIN: dict[str, type] = {"string": str, "int64": int, "int32": int, "bool": bool}
_FIELDS = struct.Struct("<HxxIq32xq")
"""Of a head (see `online.head`): version and kind, length of the text, event time, and visible time."""
_PLAIN_ROW = 1 | ROW << 8


@dataclass(slots=True)
class Found:
    """The answers to a list of keys, in the keys' order.

    Attributes:
        at_us: the time of the question, in microseconds since 1970.
        events: by key, the event time of the row that answers; None: nothing is known within ttl.
        body: the values: JSON arrays with a comma between them, of nulls where nothing is known; or rows in
            the layout of `online.layout`, one behind the other, with no bytes where nothing is known.
        sizes: of the rows, each an unsigned integer of 4 bytes; no bytes where the body is JSON.
        entry: for the log, before the answer is sent; None: nothing is logged.
    """

    at_us: int
    events: Sequence[int | None]
    body: bytes
    sizes: bytes = b""
    entry: "Entry | None" = None


class Fast:
    """The fast path of one view.

    Args:
        view: the view.
        online: the store.
        now_us: the clock, in microseconds since 1970.
        local: whether the store answers in microseconds, with no network on the way.
        logged: whether answers come with an entry for the log.
    """

    def __init__(
        self,
        view: FeatureView,
        online: OnlineStore,
        now_us: Callable[[], int],
        *,
        local: bool,
        logged: bool = False,
    ) -> None:
        self.local = local
        self._heads = online.heads
        self._look = online.look
        self._online = online
        self._now_us = now_us
        prepared = plan(view)
        self._key = store_key(prepared)
        self._ttl_us = prepared.ttl_us
        kinds = [_PLAIN.get(view.source.columns[column].type) for column in view.entity]
        self._kinds = kinds
        self._single = kinds[0] if len(kinds) == 1 else None
        self._nothing = orjson.dumps([None] * len(view.features))
        self._seen = False
        self._remembered: Remembered | None = None
        self.possible = not (view.windowed or view.required or view.defaults) and None not in kinds
        self._journaled = Journaled(view) if logged and self.possible else None

    def find(self, keys: Sequence[object], *, binary: bool = False) -> Found | None:
        """The answers to plain keys; None where the general path must tell.

        Args:
            keys: a value each, or a list of values where the entity has several columns.
            binary: which bodies are wanted.
        """
        if not self.possible or not self._plain(keys):
            return None
        # A list is no key of a mapping.
        by = keys if self._single is not None else [tuple(cast("list[object]", key)) for key in keys]
        if self._journaled is not None or self.local:
            return self._look(lambda glance: self._at_a_glance(glance, keys, by, binary=binary))
        names = self._names(keys)
        if names is None:
            return None
        heads = self._heads(self._key, names)
        if not self._seen and not self._materialized():
            return None
        at = self._now_us()
        read = _read(heads, at, self._nothing)
        if read is None:
            return None
        known = Remembered(None, b"")
        known.keep(range(len(names)), names, read)
        return self._found(at, known, range(len(names)), binary=binary)

    def _at_a_glance(
        self, glance: Glance, keys: Sequence[object], by: Sequence[object], *, binary: bool
    ) -> Found | None:
        """The answers, of one moment with how far the view had come."""
        state, known = glance.state(self._key), self._remembered
        if state is None or known is None or known.state != state or known.full:
            known = self._remembered = Remembered(state, glance.standing(self._key))
        at = self._now_us()
        if known.standing is None or known.visible > at:
            return None
        places = known.find(by)
        if None in places:
            of = {k: key for k, key, place in zip(by, keys, places, strict=True) if place is None}
            names = self._names(list(of.values()))
            read = names and _read(glance.heads(self._key, names), at, self._nothing)
            if not names or not read:
                return None
            known.keep(list(of), names, read)
            places = known.find(by)
        return self._found(at, known, cast("Sequence[int]", places), binary=binary)

    def _found(self, at: int, known: Remembered, places: Sequence[int], *, binary: bool) -> Found:
        if self._ttl_us is not None:
            places = known.within(places, at - self._ttl_us, self._nothing)
        take = taking(places)
        events: Sequence[int | None] = take(known.events)
        if known.gaps:
            events = [None if event == NOTHING else event for event in events]
        if binary:
            rows = take(known.rows)
            found = Found(at, events, b"".join(rows), array("I", map(len, rows)).tobytes())
        else:
            found = Found(at, events, b",".join(take(known.texts)))
        if self._journaled is not None and places:
            found.entry = self._journaled.entry(known, at, places)
        return found

    def _materialized(self) -> bool:
        """Whether there are values at all; no entity is the answer of a view that has come nowhere."""
        self._seen = self._online.read(lambda reader: reader.progress(self._key)) is not None
        return self._seen

    def _plain(self, keys: Sequence[object]) -> bool:
        """Whether no key is null, and each plainly of its type: to a mapping True, 1 and 1.0 are the same."""
        if self._single is not None:
            return set(map(type, keys)) <= {self._single}
        kinds = self._kinds
        return all(type(key) is list and [type(part) for part in key] == kinds for key in keys)

    def _names(self, keys: Sequence[object]) -> list[bytes] | None:
        """The entities' names in the store; None where one cannot be told."""
        try:
            if self._single is not None:
                return _names(orjson.dumps(keys), self._single)
            return [orjson.dumps(key) for key in keys]
        except orjson.JSONEncodeError:  # a lone surrogate, or a number beyond 64 bits
            return None


def _names(keys: bytes, kind: type) -> list[bytes]:
    """The names of a JSON array of keys of one type: of each key a JSON array of its own."""
    if keys == b"[]":
        return []
    if kind is not str:
        return keys.replace(b",", b"]\n[").split(b"\n")
    if b"\\" in keys:
        return [orjson.dumps([key]) for key in orjson.loads(keys)]
    # Where nothing is escaped no text holds a quote: from a text's start on, the first `","` is at its end.
    return (b'["' + keys[2:-2].replace(b'","', b'"]\n["') + b'"]').split(b"\n")


def _read(heads: Sequence[Held], at: int, nothing: bytes) -> Read | None:
    """What stands in heads; None where the general path must tell."""
    return _all_there(heads, at) or _one_by_one(heads, at, nothing)


def _all_there(heads: Sequence[Held], at: int) -> Read | None:
    """What stands in heads where every key has an answer: the usual case, and the one to be quick in."""
    if not heads:
        return None
    there = cast("Sequence[bytes | memoryview]", heads)
    try:
        kinds, lengths, events, visible = zip(*map(_FIELDS.unpack_from, there), strict=True)
    except TypeError:  # None is no bytes; to look for it first takes as long as all the rest
        return None
    latest = max(visible)
    if latest > at or set(kinds) != {_PLAIN_ROW}:
        return None
    cut = list(zip(there, lengths, strict=True))
    texts = [bytes(head[-n:]) for head, n in cut]
    return Read(events, texts, [bytes(head[VALUES_AT:-n]) for head, n in cut], latest)


def _one_by_one(heads: Sequence[Held], at: int, nothing: bytes) -> Read | None:
    events: list[int] = []
    texts: list[bytes] = []
    rows: list[bytes] = []
    latest = int(BEGINNING)
    for head in heads:
        event, text, row = NOTHING, nothing, b""
        if head is not None:
            kind, length, event, visible = _FIELDS.unpack_from(head)
            if visible > at or kind != _PLAIN_ROW:
                return None
            latest = max(latest, visible)
            text, row = bytes(head[-length:]), bytes(head[VALUES_AT:-length])
        events.append(event)
        texts.append(text)
        rows.append(row)
    return Read(events, texts, rows, latest)

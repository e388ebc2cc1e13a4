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
from typing import TYPE_CHECKING, NamedTuple, cast

import orjson

from rayplat.core.project.view import FeatureView
from rayplat.features.instants import BEGINNING
from rayplat.features.online.head import ROW, VALUES_AT
from rayplat.features.online.keys import store_key
from rayplat.features.online.store import Glance, Held, OnlineStore
from rayplat.features.plan import plan
from rayplat.features.server.journaled import Journaled

if TYPE_CHECKING:
    from rayplat.features.parity.journal import Entry

_PLAIN: dict[str, type] = {"string": str, "int64": int, "int32": int, "bool": bool}
_FIELDS = struct.Struct("<HxxIq32xq")
"""Of a head (see `online.head`): version and kind, length of the text, event time, and visible time."""
_PLAIN_ROW = 1 | ROW << 8

Names = tuple[list[bytes], bytes]
"""The names of entities in the store, and the same with a line feed between them."""


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


class _Wanted(NamedTuple):
    """Which form and pieces are wanted, the text where nothing is known, and whether it is logged."""

    binary: bool
    texts: bool
    rows: bool
    nothing: bytes
    logged: bool


_Pieces = tuple[Sequence[int | None], Sequence[bytes | memoryview], Sequence[bytes | memoryview]]
"""Event times, texts, and values in the layout of `online.layout`; the latter two empty if not wanted."""


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
        self.possible = not (view.windowed or view.required or view.defaults) and None not in kinds
        self._journaled = Journaled(view) if logged and self.possible else None

    def find(self, keys: Sequence[object], *, binary: bool = False) -> Found | None:
        """The answers to plain keys; None where the general path must tell.

        Args:
            keys: a value each, or a list of values where the entity has several columns.
            binary: which bodies are wanted.
        """
        names = self._names(keys) if self.possible else None
        if names is None:
            return None
        found, joined = names
        if self._journaled is not None or self.local:
            return self._look(lambda glance: self._at_a_glance(glance, found, joined, binary=binary))
        heads = self._heads(self._key, found)
        if not self._seen and not self._materialized():
            return None
        at, wanted = self._now_us(), self._wanted(found, binary=binary)
        return self._found(at, self._pieces(heads, at, wanted), b"", joined, wanted)

    def _at_a_glance(
        self, glance: Glance, names: list[bytes], joined: bytes, *, binary: bool
    ) -> Found | None:
        """The answers, of one moment with how far the view had come."""
        standing = glance.standing(self._key)
        if standing is None:
            return None
        at, wanted = self._now_us(), self._wanted(names, binary=binary)
        pieces = self._pieces(glance.heads(self._key, names), at, wanted)
        return self._found(at, pieces, standing, joined, wanted)

    def _wanted(self, names: Sequence[bytes], *, binary: bool) -> _Wanted:
        logged = self._journaled is not None and bool(names)
        return _Wanted(binary, texts=not binary, rows=binary or logged, nothing=self._nothing, logged=logged)

    def _oldest(self, at: int) -> int:
        return BEGINNING if self._ttl_us is None else at - self._ttl_us

    def _pieces(self, heads: Sequence[Held], at: int, wanted: _Wanted) -> _Pieces | None:
        oldest = self._oldest(at)
        return _all_there(heads, at, oldest, wanted) or _one_by_one(heads, at, oldest, wanted)

    def _found(
        self, at: int, pieces: _Pieces | None, standing: bytes, joined: bytes, wanted: _Wanted
    ) -> Found | None:
        if pieces is None:
            return None
        events, texts, rows = pieces
        sizes, values = b"", b""
        if wanted.rows:
            sizes, values = array("I", map(len, rows)).tobytes(), b"".join(rows)
        found = Found(at, events, values, sizes) if wanted.binary else Found(at, events, b",".join(texts))
        if wanted.logged and self._journaled is not None:
            found.entry = self._journaled.entry(standing, at, joined, sizes, values)
        return found

    def _materialized(self) -> bool:
        """Whether there are values at all; no entity is the answer of a view that has come nowhere."""
        self._seen = self._online.read(lambda reader: reader.progress(self._key)) is not None
        return self._seen

    def _names(self, keys: Sequence[object]) -> Names | None:
        """The entities' names in the store; None where a key is null or not plainly of its type."""
        dumps, single = orjson.dumps, self._single
        try:
            if single is not None:
                if not set(map(type, keys)) <= {single}:
                    return None
                return _names(dumps(keys), single)
            kinds = self._kinds
            for key in keys:
                if type(key) is not list or [type(part) for part in key] != kinds:
                    return None
            names = [dumps(key) for key in keys]
            return names, b"\n".join(names)
        except orjson.JSONEncodeError:  # a lone surrogate, or a number beyond 64 bits
            return None


def _names(keys: bytes, kind: type) -> Names:
    """The names of a JSON array of keys of one type: of each key a JSON array of its own."""
    if keys == b"[]":
        return [], b""
    if kind is not str:
        joined = keys.replace(b",", b"]\n[")
        return joined.split(b"\n"), joined
    if b"\\" in keys:
        names = [orjson.dumps([key]) for key in orjson.loads(keys)]
        return names, b"\n".join(names)
    # Where nothing is escaped no text holds a quote: from a text's start on, the first `","` is at its end.
    joined = b'["' + keys[2:-2].replace(b'","', b'"]\n["') + b'"]'
    return joined.split(b"\n"), joined


def _all_there(heads: Sequence[Held], at: int, oldest: int, wanted: _Wanted) -> _Pieces | None:
    """The pieces where every key has an answer, which is the usual case and the one to be quick in."""
    if not heads:
        return None
    there = cast("Sequence[bytes | memoryview]", heads)
    try:
        kinds, lengths, events, visible = zip(*map(_FIELDS.unpack_from, there), strict=True)
    except TypeError:  # None is no bytes; to look for it first takes as long as all the rest
        return None
    if max(visible) > at or min(events) < oldest or set(kinds) != {_PLAIN_ROW}:
        return None
    cut = list(zip(there, lengths, strict=True))
    texts = [head[-n:] for head, n in cut] if wanted.texts else []
    rows = [head[VALUES_AT:-n] for head, n in cut] if wanted.rows else []
    return events, texts, rows


def _one_by_one(heads: Sequence[Held], at: int, oldest: int, wanted: _Wanted) -> _Pieces | None:
    events: list[int | None] = []
    texts: list[bytes | memoryview] = []
    rows: list[bytes | memoryview] = []
    for head in heads:
        event: int | None = None
        text: bytes | memoryview = wanted.nothing
        row: bytes | memoryview = b""
        if head is not None:
            kind, length, of, visible = _FIELDS.unpack_from(head)
            if visible > at or kind != _PLAIN_ROW:
                return None
            if of >= oldest:
                event, text, row = of, head[-length:], head[VALUES_AT:-length]
        events.append(event)
        texts.append(text)
        rows.append(row)
    return events, texts, rows if wanted.rows else ()

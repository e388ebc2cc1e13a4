"""The fast path: entities whose answer stands ready in the online store, found without Polars.

Knows which views and questions can be answered from heads alone, and where in a head the answer stands;
it does not know stores, nor the forms of an answer.

A view is answered so when it holds row transforms. What stands ready is the newest answer: a question that
is older than an entity's newest row, or one about a view with defaults or required features, is left to
`get_online_features`, whose values are the same.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import orjson

from rayplat.core.project.view import FeatureView
from rayplat.features.instants import BEGINNING
from rayplat.features.online.head import ROW, VALUES_AT
from rayplat.features.online.keys import store_key
from rayplat.features.online.store import OnlineStore
from rayplat.features.plan import plan
from rayplat.features.server.journaled import Journaled

if TYPE_CHECKING:
    from rayplat.features.parity.journal import Entry

_PLAIN: dict[str, type] = {"string": str, "int64": int, "int32": int, "bool": bool}
_FIELDS = struct.Struct("<HxxIq32xq")
"""Of a head (see `online.head`): version and kind, length of the text, event time, and visible time."""
_PLAIN_ROW = 1 | ROW << 8
_TEXT_LENGTH = struct.Struct("<4xI")


@dataclass(slots=True)
class Found:
    """The answers to a list of keys, in the keys' order.

    Attributes:
        at_us: the time of the question, in microseconds since 1970.
        events: by key, the event time of the row that answers; None: nothing is known within ttl.
        bodies: by key, the values: as a JSON array, or in the layout of `online.layout`. Where nothing is
            known, a JSON array of nulls, or no bytes.
        lengths: by key, of the text at the end of its head; empty where some key has no answer.
        entry: for the log, before the answer is sent; None: nothing is logged.
    """

    at_us: int
    events: Sequence[int | None]
    bodies: Sequence[bytes]
    lengths: Sequence[int] = ()
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
        self._standing = online.standing
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
        if self._journaled is not None:
            return self._logged(self._journaled, names, binary=binary)
        heads = self._heads(self._key, names)
        if not self._seen and not self._materialized():
            return None
        return self._answers(heads, binary=binary)

    def _answers(self, heads: Sequence[bytes | None], *, binary: bool) -> Found | None:
        at = self._now_us()
        oldest = BEGINNING if self._ttl_us is None else at - self._ttl_us
        return _all_there(heads, at, oldest, binary) or self._one_by_one(heads, at, oldest, binary)

    def _logged(self, journaled: Journaled, names: list[bytes], *, binary: bool) -> Found | None:
        """The answers, with their entry for the log; of one moment with how far the view had come."""
        standing, heads = self._standing(self._key, names)
        if standing is None:
            return None
        found = self._answers(heads, binary=binary)
        if found is None or not names:
            return found
        values = found.bodies if binary else _values(heads, found)
        found.entry = journaled.entry(standing, found.at_us, names, values)
        return found

    def _one_by_one(self, heads: Sequence[bytes | None], at: int, oldest: int, binary: bool) -> Found | None:
        none = b"" if binary else self._nothing
        events: list[int | None] = []
        bodies: list[bytes] = []
        for head in heads:
            if head is None:
                events.append(None)
                bodies.append(none)
                continue
            kind, length, event, visible = _FIELDS.unpack_from(head)
            if visible > at or kind != _PLAIN_ROW:
                return None
            there = event >= oldest
            events.append(event if there else None)
            bodies.append((head[VALUES_AT:-length] if binary else head[-length:]) if there else none)
        return Found(at, events, bodies)

    def _materialized(self) -> bool:
        """Whether there are values at all; no entity is the answer of a view that has come nowhere."""
        self._seen = self._online.read(lambda reader: reader.progress(self._key)) is not None
        return self._seen

    def _names(self, keys: Sequence[object]) -> list[bytes] | None:
        """The entities' names in the store; None where a key is null or not plainly of its type."""
        dumps, single = orjson.dumps, self._single
        try:
            if single is not None:
                if not set(map(type, keys)) <= {single}:
                    return None
                return [dumps([key]) for key in keys]
            kinds = self._kinds
            for key in keys:
                if type(key) is not list or [type(part) for part in key] != kinds:
                    return None
            return [dumps(key) for key in keys]
        except orjson.JSONEncodeError:  # a lone surrogate, or a number beyond 64 bits
            return None


def _values(heads: Sequence[bytes | None], found: Found) -> list[bytes]:
    """The values of heads in the layout of `online.layout`; no bytes where nothing is known."""
    if found.lengths:
        there = cast("Sequence[bytes]", heads)
        return [head[VALUES_AT:-n] for head, n in zip(there, found.lengths, strict=True)]
    length = _TEXT_LENGTH.unpack_from
    return [
        b"" if head is None or event is None else head[VALUES_AT : -length(head)[0]]
        for head, event in zip(heads, found.events, strict=True)
    ]


def _all_there(heads: Sequence[bytes | None], at: int, oldest: int, binary: bool) -> Found | None:
    """The answer where every key has one, which is the usual case and the one to be quick in."""
    if not heads or None in heads:
        return None
    there = cast("Sequence[bytes]", heads)
    kinds, lengths, events, visible = zip(*map(_FIELDS.unpack_from, there), strict=True)
    if max(visible) > at or min(events) < oldest or set(kinds) != {_PLAIN_ROW}:
        return None
    if binary:
        return Found(
            at, events, [head[VALUES_AT:-n] for head, n in zip(there, lengths, strict=True)], lengths
        )
    return Found(at, events, [head[-n:] for head, n in zip(there, lengths, strict=True)], lengths)

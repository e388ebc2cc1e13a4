"""Questions about one view by its keys: the shortest way in and out.

Knows when the fast path answers and when the general one; the forms are `forms`'.
"""

from array import array
from collections.abc import Sequence
from typing import Any

import polars as pl

from rayplat.core.project.view import FeatureView
from rayplat.features.online.head import to_json
from rayplat.features.online.layout import Layout
from rayplat.features.server.connection import Reply
from rayplat.features.server.faults import RefusedError
from rayplat.features.server.forms import Form
from rayplat.features.server.general import General
from rayplat.features.server.held import Fast, Found
from rayplat.features.server.requests import document, keys_of, time_of
from rayplat.features.server.wire import BINARY, Head

AT_ONCE = 1_000
"""More entities than this are answered by a thread, so that other connections do not wait for them."""

_BINARY = BINARY.encode()
_JSON = b"application/json"


class CompactView:
    """Answers POST on a view: `{"keys": [...]}`, and `at` for a time other than now.

    A key is a value, or a list of values where the entity has several columns.
    """

    def __init__(self, view: FeatureView, fast: Fast, general: General) -> None:
        self.route = "/v1/features/{view}"
        self._view = view
        self._fast = fast
        self._general = general
        self._form = Form(view.name, list(view.features))

    def at_once(self, head: Head, body: bytes) -> Reply | None:
        """See `Handler`."""
        if not self._fast.local:
            return None
        found = document(body)
        keys = keys_of(found)
        if len(keys) > AT_ONCE or "at" in found:
            return None
        answer = self._fast.find(keys, binary=head.binary)
        return None if answer is None else self._reply(head, answer)

    def slowly(self, head: Head, body: bytes) -> Reply:
        """See `Handler`."""
        found = document(body)
        keys, at = keys_of(found), time_of(found)
        answer = self._fast.find(keys, binary=head.binary) if at is None else None
        if answer is None:
            asks = self._view.asks
            requests = [dict(zip(asks, _parts(key, len(asks)), strict=True)) for key in keys]
            told = self._general.ask([self._view], requests, at)
            events = told.event_us.get(self._view.name, [None] * len(keys))
            frame = told.frame.select(self._view.names)
            answer = self._general_answer(told.at_us, frame, events, binary=head.binary)
        return self._reply(head, answer)

    def _reply(self, head: Head, answer: Found) -> Reply:
        entries = () if answer.entry is None else (answer.entry,)
        if head.binary:
            first, *rest = self._form.binary(answer)
            return Reply(first, _BINARY, 200, len(answer.events), entries, rest)
        first, *rest = self._form.text(answer)
        return Reply(first, _JSON, 200, len(answer.events), entries, rest)

    def _general_answer(
        self, at_us: int, frame: pl.DataFrame, events: Sequence[int | None], *, binary: bool
    ) -> Found:
        if not binary:
            return Found(at_us, events, b",".join([to_json(row) for row in frame.iter_rows()]))
        rows = Layout(frame.schema).encode(frame)
        # An empty window has values: its count is 0. Only of row transforms is nothing known.
        told = self._view.windowed
        rows = [b"" if event is None and not told else row for event, row in zip(events, rows, strict=True)]
        return Found(at_us, events, b"".join(rows), array("I", map(len, rows)).tobytes())


def _parts(key: Any, count: int) -> list[Any]:
    if count == 1 and not isinstance(key, list):
        return [key]
    if not isinstance(key, list) or len(key) != count:
        raise RefusedError(422, f"the key {str(key)[:60]!r} is not made of {count} values")
    return key

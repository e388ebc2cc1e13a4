"""Feast's question and answer: `POST /get-online-features`.

Knows Feast's vocabulary; it does not know where values come from.

The question: `features` (`view:feature`, or `view` for all of it) or `feature_service` (a model: its
features), `entities` (columns of equal length; columns that request views read stand here too, or in
`request_context`), `full_feature_names`, and beyond Feast `at`. The answer: `metadata.feature_names`, and for
each of them in `results` the `values`, `statuses` and `event_timestamps`, a row each. Statuses are PRESENT,
NULL_VALUE, and NOT_FOUND where nothing is known of the entity within ttl. An event timestamp tells how fresh
a value is; it is 1970-01-01T00:00:00Z where there is none, as in Feast.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from rayplat.core.project.view import FeatureView
from rayplat.features.instants import BEGINNING
from rayplat.features.server.compact import AT_ONCE
from rayplat.features.server.connection import Reply
from rayplat.features.server.general import General
from rayplat.features.server.held import Fast, Found
from rayplat.features.server.requests import Asked, asked, document
from rayplat.features.server.selection import Selection, Selections
from rayplat.features.server.wire import Head

if TYPE_CHECKING:
    from rayplat.features.parity.journal import Entry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = "1970-01-01T00:00:00Z"
_PRESENT, _NULL, _NOT_FOUND = "PRESENT", "NULL_VALUE", "NOT_FOUND"

Lane = tuple[Sequence[Any], Sequence[int | None] | None]
"""The values of a column, and the event times of what they were made of; None: it has none."""


class FeastForm:
    """Answers questions in Feast's form."""

    def __init__(self, selections: Selections, fast: Mapping[str, Fast], general: General) -> None:
        self.route = "/get-online-features"
        self._selections = selections
        self._fast = fast
        self._general = general

    def at_once(self, _head: Head, body: bytes) -> Reply | None:
        """See `Handler`."""
        question = asked(document(body))
        selection = self._selections.of(question)
        local = all(v.name in self._fast and self._fast[v.name].local for v in selection.views)
        if not local or len(question.requests) > AT_ONCE:
            return None
        quick = self._quickly(question, selection)
        return None if quick is None else _reply(question, selection, *quick)

    def slowly(self, _head: Head, body: bytes) -> Reply:
        """See `Handler`."""
        question = asked(document(body))
        selection = self._selections.of(question)
        quick = self._quickly(question, selection)
        if quick is not None:
            return _reply(question, selection, *quick)
        told = self._general.ask(selection.views, question.requests, question.at)
        lanes: list[Lane] = [
            (told.frame.get_column(column.full).to_list(), told.event_us.get(column.view.name))
            for column in selection.columns
        ]
        return _reply(question, selection, lanes)

    def _quickly(self, question: Asked, selection: Selection) -> tuple[list[Lane], list["Entry"]] | None:
        """The columns by the fast path, and entries for the log; None where it cannot answer all of them."""
        if question.at is not None:
            return None
        found: dict[str, tuple[list[Any], Sequence[int | None]]] = {}
        entries: list[Entry] = []
        for view in selection.views:
            fast = self._fast.get(view.name)
            if (
                fast is None
                or not isinstance(view, FeatureView)
                or not set(view.asks) <= set(question.columns)
            ):
                return None
            answer = fast.find(_keys(view.asks, question.requests))
            if answer is None:
                return None
            found[view.name] = _values(answer)
            if answer.entry is not None:
                entries.append(answer.entry)
        lanes: list[Lane] = [
            ([row[c.place] for row in found[c.view.name][0]], found[c.view.name][1])
            for c in selection.columns
        ]
        return lanes, entries


def _keys(asks: Sequence[str], requests: Iterable[Mapping[str, Any]]) -> list[Any]:
    if len(asks) == 1:
        return [request[asks[0]] for request in requests]
    return [[request[column] for column in asks] for request in requests]


def _values(answer: Found) -> tuple[list[Any], Sequence[int | None]]:
    return orjson.loads(b"[" + answer.body + b"]"), answer.events


def _reply(
    question: Asked, selection: Selection, lanes: Sequence[Lane], entries: "Sequence[Entry]" = ()
) -> Reply:
    results: list[dict[str, Sequence[Any]]] = [
        {
            "values": [request[name] for request in question.requests],
            "statuses": [_PRESENT] * len(question.requests),
            "event_timestamps": [_NEVER] * len(question.requests),
        }
        for name in question.columns
    ]
    stamps: dict[int, list[str]] = {}
    present = [_PRESENT] * len(question.requests)
    never = [_NEVER] * len(question.requests)
    for values, events in lanes:
        # Columns of one view share their times, and mostly nothing is missing.
        times = (
            never
            if events is None
            else stamps.get(id(events)) or stamps.setdefault(id(events), _stamps(events))
        )
        statuses = _statuses(values, events) if None in values else present
        results.append({"values": values, "statuses": statuses, "event_timestamps": times})
    names = [*question.columns, *(column.name for column in selection.columns)]
    body = orjson.dumps({"metadata": {"feature_names": names}, "results": results})
    return Reply(body, entities=len(question.requests) * len(selection.views), entries=entries)


def _statuses(values: Sequence[Any], events: Sequence[int | None] | None) -> list[str]:
    if events is None:
        return [_NULL if value is None else _PRESENT for value in values]
    return [
        _PRESENT if value is not None else _NOT_FOUND if event is None else _NULL
        for value, event in zip(values, events, strict=True)
    ]


def _stamps(events: Sequence[int | None]) -> list[str]:
    told: dict[int | None, str] = {None: _NEVER, BEGINNING: _NEVER}
    for event in events:
        if event is not None and event not in told:
            told[event] = (_EPOCH + timedelta(microseconds=event)).isoformat().replace("+00:00", "Z")
    return [told[event] for event in events]

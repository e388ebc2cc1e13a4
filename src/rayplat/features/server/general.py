"""The general path: any views and any time, by `get_online_features`, as columns of plain values.

Knows how requests of the server become questions; it does not know bytes on the wire. It takes
milliseconds and runs on a thread.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from rayplat.core.project.view import View
from rayplat.features.instants import BEGINNING, to_micros
from rayplat.features.online.store import OnlineStore
from rayplat.features.plan import plan
from rayplat.features.requests import request_frame
from rayplat.features.serving import OnlineFeatures, get_online_features

if TYPE_CHECKING:
    from rayplat.features.parity.log import FeatureLog

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Answered:
    """Values of several views.

    Attributes:
        at_us: the time of the questions, in microseconds since 1970.
        frame: one row a question, one column a feature, by full names.
        event_us: by feature view, for each question the event time of what answered: None: nothing did;
            `BEGINNING`: a row of a table without times.
    """

    at_us: int
    frame: pl.DataFrame
    event_us: Mapping[str, Sequence[int | None]]


class General:
    """Answers from an online store, one question at a time.

    Args:
        online: the store.
        now_us: the clock, in microseconds since 1970.
        log: where every vector is written before it is answered; None: nowhere.
    """

    def __init__(
        self, online: OnlineStore, now_us: Callable[[], int], log: "FeatureLog | None" = None
    ) -> None:
        self._online = online
        self._now_us = now_us
        self._log = log
        self._turn = threading.Lock()

    def ask(
        self, views: Sequence[View], requests: Sequence[Mapping[str, Any]], at: datetime | None
    ) -> Answered:
        """The values of `views` for `requests` at a time, or now; raises as `get_online_features` does."""
        moment = at or _EPOCH + timedelta(microseconds=self._now_us())
        # Polars uses all cores for one question; several at once would only wait for each other.
        with self._turn:
            answer = get_online_features(self._online, views, requests, moment)
        if self._log is not None:
            self._log.append(_lines(views, requests, moment, answer))
        events = {
            view.name: [_event(told, view.name) for told in answer.provenance]
            for view in views
            if any(view.name in told for told in answer.provenance)
        }
        return Answered(to_micros(moment), answer.frame, events)


def _lines(
    views: Sequence[View], requests: Sequence[Mapping[str, Any]], at: datetime, answer: OnlineFeatures
) -> bytes:
    from rayplat.features.parity.log import vector_lines

    return vector_lines(
        request_frame(views, requests, at),
        answer.frame,
        at,
        digests={view.name: plan(view).digest for view in views},
        standing=answer.progress,
        caller="feature-server",
    )


def _event(told: Mapping[str, Any], view: str) -> int | None:
    found = told.get(view)
    if found is None:
        return None
    event = found["event_time"]
    return BEGINNING if event is None else to_micros(event)

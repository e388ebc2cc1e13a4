"""Online features: a batch of requests answered from the online store, with where each value came from.

Knows how requests, keys and views of views come together; it does not know how values are kept
(`online`), nor the semantics of a view, which is `point_in_time`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView, View, in_order
from rayplat.features.derived import derived_features
from rayplat.features.instants import BEGINNING, to_micros, utc
from rayplat.features.online.answers import Answered, answer_view
from rayplat.features.online.keys import entity_keys
from rayplat.features.online.store import OnlineStore, Progress, Reader
from rayplat.features.plan import plan
from rayplat.features.requests import request_frame

Provenance = dict[str, dict[str, Any] | None]
"""By view: `event_time`, `partition`, `offset` of the source row that answered (of the newest row in a
window) and the `snapshot_id` up to which the view was materialized; None where no row answered."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OnlineFeatures:
    """Feature values of a batch of requests.

    Attributes:
        frame: one row a request, one column a feature, in the views' order.
        provenance: one mapping a request.
        progress: by feature view, how far the store had come at the moment of the read.
        freshness: one mapping a request: by feature view, how long before the question the event lies that
            answered; None where no row answered, or the source has no times.
    """

    frame: pl.DataFrame
    provenance: list[Provenance]
    progress: Mapping[str, Progress] = field(default_factory=dict)
    freshness: list[dict[str, timedelta | None]] = field(default_factory=list)


def get_online_features(
    online: OnlineStore, views: Sequence[View], requests: Sequence[Mapping[str, Any]], at: datetime
) -> OnlineFeatures:
    """Answer requests with what was known at `at`, as far as it is materialized.

    Views that others are made of, or that name their entities, are answered first; of what is not among
    `views` no column is given. Null is replaced by the default that a view declares.

    Args:
        online: the store.
        views: the views.
        requests: one mapping a question, with the columns of `requests.request_columns`.
        at: the time of the questions.

    Raises:
        UserError: a request is faulty, a required feature is absent, or `at` is so far behind an entity's
            newest row that the store cannot tell any more (see `online.keys.SLACK`).
        NotFoundError: a view was never materialized.
    """
    asked = utc(at)
    rows = request_frame(views, requests, asked)
    moment = to_micros(asked)
    parts, answered = online.read(lambda reader: _answers(reader, views, rows, len(requests), moment))
    provenance: list[Provenance] = [{} for _ in requests]
    freshness: list[dict[str, timedelta | None]] = [{} for _ in requests]
    for name, found in answered.items():
        _tell(name, found, moment, provenance, freshness)
    chosen = [parts[view.name].select(view.names) for view in views]
    frame = pl.concat(chosen, how="horizontal") if chosen else pl.DataFrame()
    progress = {name: found.progress for name, found in answered.items()}
    return OnlineFeatures(frame, provenance, progress, freshness)


def _answers(
    reader: Reader, views: Sequence[View], rows: pl.DataFrame, count: int, at: int
) -> tuple[dict[str, pl.DataFrame], dict[str, Answered]]:
    """The features of views and of those that they are made of; of feature views, all there is to tell."""
    parts: dict[str, pl.DataFrame] = {}
    answered: dict[str, Answered] = {}
    known = rows
    for view in in_order(views):
        if isinstance(view, FeatureView):
            keys: list[bytes | None] = entity_keys(known, view.asks) if known.width else [None] * count
            answered[view.name] = found = answer_view(reader, plan(view), keys, at)
            parts[view.name] = found.features
            _check_required(view, found.features, keys)
        else:
            parts[view.name] = derived_features(known, view)
        known = pl.concat([known, parts[view.name]], how="horizontal")
    return parts, answered


def _check_required(view: FeatureView, features: pl.DataFrame, keys: Sequence[bytes | None]) -> None:
    for feature in view.required:
        absent = features.get_column(f"{view.name}__{feature}").is_null()
        if absent.any():
            place = int(absent.arg_true()[0])
            key = keys[place]
            raise UserError(
                f"request {place} has no {view.name}__{feature}, which is required, for "
                f"{', '.join(view.asks)} = {'null' if key is None else key.decode()}",
                "ask about an entity that has one, or declare a default in place of required",
            )


def _tell(
    name: str,
    found: Answered,
    at: int,
    provenance: list[Provenance],
    freshness: list[dict[str, timedelta | None]],
) -> None:
    snapshot = found.progress.snapshot_id
    for told, fresh, rank in zip(provenance, freshness, found.ranks, strict=True):
        if rank is None:
            told[name] = fresh[name] = None
            continue
        event, _, offset, partition = rank
        timed = event != BEGINNING
        told[name] = {
            "event_time": _EPOCH + timedelta(microseconds=event) if timed else None,
            "partition": partition if found.logged else None,
            "offset": offset if found.logged else None,
            "snapshot_id": snapshot,
        }
        fresh[name] = timedelta(microseconds=at - event) if timed else None

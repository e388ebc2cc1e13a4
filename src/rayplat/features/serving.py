"""Online features: a batch of requests answered from the online store, with where each value came from.

Knows how to bring stored rows and requests together; the semantics of a view are `point_in_time`'s, the
same code that makes training sets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.project.view import FeatureView, View
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import BEGINNING, to_micros, utc
from rayplat.features.offline import request_features
from rayplat.features.online import OnlineStore, Stored
from rayplat.features.online_rows import SLACK, decode, earliest, entity_keys, store_key
from rayplat.features.plan import Plan, plan
from rayplat.features.point_in_time import Answer, answer
from rayplat.features.questions import Questions
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
    """

    frame: pl.DataFrame
    provenance: list[Provenance]


def get_online_features(
    online: OnlineStore, views: Sequence[View], requests: Sequence[Mapping[str, Any]], at: datetime
) -> OnlineFeatures:
    """Answer requests with what was known at `at`, as far as it is materialized.

    Args:
        online: the store.
        views: feature views and request views.
        requests: one mapping a question, with the entity columns of the feature views and the columns that
            the request views read (see `requests.request_frame`).
        at: the time of the questions.

    Raises:
        UserError: a request is faulty, or `at` is so far behind an entity's newest row that the store cannot
            tell any more (see `online_rows.SLACK`).
        NotFoundError: a view was never materialized.
    """
    asked = utc(at)
    rows = request_frame(views, requests, asked)
    held = {v.name: plan(v) for v in views if isinstance(v, FeatureView)}
    keys = {
        name: entity_keys(rows, v.entity)
        for name, v in ((v.name, v) for v in views if isinstance(v, FeatureView))
    }
    store_keys = {name: store_key(prepared) for name, prepared in held.items()}
    stored = online.read({store_keys[n]: list({k: None for k in keys[n] if k is not None}) for n in held})
    parts: list[pl.DataFrame] = []
    provenance: list[Provenance] = [{} for _ in requests]
    for view in views:
        if not isinstance(view, FeatureView):
            parts.append(request_features(rows, view))
            continue
        found = stored[store_keys[view.name]]
        answered = _answer(view, held[view.name], found, keys[view.name], asked)
        parts.append(answered.features)
        _tell(provenance, view, found, answered)
    frame = pl.concat(parts, how="horizontal") if parts else pl.DataFrame()
    return OnlineFeatures(frame, provenance)


def _answer(view: FeatureView, prepared: Plan, found: Stored, keys: list[str | None], at: datetime) -> Answer:
    if found.progress is None:
        raise NotFoundError(
            f"view {view.name!r} as it is now defined was never materialized",
            "materialize it: rayplat features materialize PROJECT",
        )
    moment = to_micros(at)
    for entity, entry in found.entries.items():
        if moment < earliest(entry):
            newest = _EPOCH + timedelta(microseconds=entry.newest)
            raise UserError(
                f"{at.isoformat()} is more than {SLACK} behind the newest row of {entity} in view "
                f"{view.name!r} ({newest.isoformat()})",
                "ask about the present, or use get_historical_features",
            )
    places = {entity: i for i, entity in enumerate(found.entries)}
    source, source_code = decode(found.progress.schema, list(found.entries.values()))
    code = np.array([-1 if k is None else places.get(k, -1) for k in keys], dtype=np.int64)
    null = np.array([k is None for k in keys], dtype=bool)
    questions = Questions(code, null, np.full(len(keys), moment))
    return answer(prepared, source, source_code, questions)


def _tell(provenance: list[Provenance], view: FeatureView, found: Stored, answered: Answer) -> None:
    line = answered.line
    system = [line.frame.get_column(c) if c in line.frame.columns else None for c in (PARTITION, OFFSET)]
    for told, position in zip(provenance, answered.chosen.tolist(), strict=True):
        if position < 0:
            told[view.name] = None
            continue
        event = int(line.event[position])
        partition, offset = (None if s is None else s[position] for s in system)
        told[view.name] = {
            "event_time": None if event == BEGINNING else _EPOCH + timedelta(microseconds=event),
            "partition": partition,
            "offset": offset,
            "snapshot_id": found.progress.snapshot_id if found.progress else None,
        }

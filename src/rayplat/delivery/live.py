"""The live period of a replay: time passes in ticks, rows ask over HTTP, labels arrive.

Knows the order of a tick (tell, ingest, materialize, ask) and which rows have asked already; it does
not know how an endpoint answers.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import orjson
import polars as pl

from rayplat.core.project.model import Model, Replay
from rayplat.core.project.view import FeatureView, asking_columns, in_order
from rayplat.delivery.history import tell_and_ingest
from rayplat.delivery.work import Work
from rayplat.features.materialize import materialize
from rayplat.serve.client import predict
from rayplat.serve.prediction_log import PredictionLog

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What the live period did: rows that asked now, rows that had asked before, seconds of asking."""

    asked: int
    before: int
    seconds: float


def questions(model: Model, rows: pl.DataFrame) -> Iterator[tuple[datetime, list[dict[str, Any]]]]:
    """The rows as requests: those of one instant together, in order of time.

    A request carries what the features need and the label's keys, so that the outcome finds it.
    """
    when = str(model.rows.event_time)
    columns = request_columns(model)
    for (at,), group in rows.sort(when, *model.rows.key).group_by([when], maintain_order=True):
        if isinstance(at, datetime):
            yield at, group.select(columns).to_dicts()


def request_columns(model: Model) -> list[str]:
    """The columns of a request: what the features need of the asking row, and the label's keys."""
    needed = {*model.label.keys, *asking_columns(model.features)}
    return [c for c in model.rows.columns if c in needed]


def already_asked(work: Work) -> set[str]:
    """The keys of the rows that the prediction log holds, so that no row asks twice after a crash."""
    parts = work.parts
    PredictionLog(parts.settings).drain(parts.lake, parts.settings, parts.bus)
    if not parts.lake.exists("serving.predictions"):
        return set()
    log = parts.lake.table("serving.predictions").read(columns=["endpoint", "request"])
    return {
        _key(orjson.loads(request), work.model)
        for name, request in zip(log["endpoint"].to_pylist(), log["request"].to_pylist(), strict=True)
        if name == work.endpoint.name
    }


def _key(row: Mapping[str, Any], model: Model) -> str:
    def plain(value: Any) -> str:
        text = value.isoformat() if isinstance(value, datetime) else str(value)
        return text.replace("+00:00", "Z")

    return "|".join(plain(row[c]) for c in model.label.keys)


def live(work: Work, replay: Replay, url: str) -> Asked:
    """Let the live period pass. Interrupted and called again, it goes on where it stopped."""
    parts, model = work.parts, work.model
    done = already_asked(work)
    before, asked, seconds = len(done), 0, 0.0
    views = [v for v in in_order(model.features) if isinstance(v, FeatureView)]
    span = replay.live_until - replay.history_until
    now = _first_open_tick(replay, _newest(work, replay, done))
    while now < replay.live_until:
        until = min(now + replay.tick, replay.live_until)
        tell_and_ingest(work, until)
        materialize(parts.lake, parts.online, views, parts.bus)
        rows = _rows_between(work, now, until)
        fresh = rows.filter(
            pl.Series([_key(r, model) not in done for r in rows.to_dicts()], dtype=pl.Boolean)
        )
        seconds += _ask(url, model, fresh)
        asked += fresh.height
        now = until
        work.progress.note(f"{now:%d %b %H:%M} · {asked:,} asked", (now - replay.history_until) / span)
    PredictionLog(parts.settings).drain(parts.lake, parts.settings, parts.bus)
    return Asked(asked, before, seconds)


def _newest(work: Work, replay: Replay, done: set[str]) -> datetime | None:
    """When the newest row that has asked did so."""
    if not done:
        return None
    when = str(work.model.rows.event_time)
    rows = _rows_between(work, replay.history_until, replay.live_until).to_dicts()
    return max((row[when] for row in rows if _key(row, work.model) in done), default=None)


def _first_open_tick(replay: Replay, newest: datetime | None) -> datetime:
    """The tick of the newest row that has asked: ticks pass in order, so those before it are complete."""
    if newest is None:
        return replay.history_until
    return replay.history_until + (newest - replay.history_until) // replay.tick * replay.tick


def _rows_between(work: Work, begin: datetime, end: datetime) -> pl.DataFrame:
    when = str(work.model.rows.event_time)
    where = f"{when} >= '{begin.isoformat()}' and {when} < '{end.isoformat()}'"
    table = work.parts.lake.table(work.model.rows.name)
    return pl.DataFrame(table.read(where=where))


def _ask(url: str, model: Model, rows: pl.DataFrame) -> float:
    begin = time.perf_counter()
    with httpx.Client() as http, ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = [
            pool.submit(predict, url, instances, at, http=http) for at, instances in questions(model, rows)
        ]
        for answer in answers:
            answer.result()
    return time.perf_counter() - begin

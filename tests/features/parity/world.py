"""A small world for proofs: rows that come late and again, a store that follows, questions, a log."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from rayplat.core.project.view import FeatureView, View
from rayplat.core.project.window import window
from rayplat.core.settings import Settings
from rayplat.features.materialize import materialize
from rayplat.features.online.opening import open_online
from rayplat.features.parity.log import FeatureLog, vector_lines
from rayplat.features.plan import plan
from rayplat.features.requests import request_frame
from rayplat.features.serving import get_online_features
from tests.features.fakes import FakeLake
from tests.features.oracle import Event
from tests.features.worlds import frame, hour, project, source_table

SOURCE = source_table()
LAST = project().feature_view(
    "last",
    source=SOURCE,
    entity="entity",
    ttl=timedelta(hours=6),
    features={"x": pl.col("x"), "twice": pl.col("x") * 2},
)
RECENT = project().feature_view(
    "recent",
    source=SOURCE,
    entity="entity",
    features={
        "sum": window("4h").sum("x"),
        "count": window("4h").count("x"),
        "mean": window("2h").mean("x"),
        "last": window("4h").last("x"),
    },
)
VIEWS = (LAST, RECENT)


def told(rng: np.random.Generator, rows: int = 300, entities: int = 4) -> list[list[Event]]:
    """Rows in the order in which they are told, an hour a list: late ones, ties, and some told twice."""
    made = []
    for _ in range(rows):
        event = hour(int(rng.integers(0, 96)) / 4)
        known = event + timedelta(minutes=int(rng.choice([0, 0, 15, 200])))
        made.append((f"e{rng.integers(entities)}", event, known, float(rng.normal())))
    made += [made[i] for i in rng.integers(0, rows, rows // 10)]
    made.sort(key=lambda row: row[2])
    hours: list[list[Event]] = [[] for _ in range(30)]
    for offset, (entity, event, known, x) in enumerate(made):
        place = int((known - hour(0)) // timedelta(hours=1))
        hours[place].append(Event(entity, event, known, offset % 2, offset // 2, x))
    return hours


def offsets_after(before: Sequence[tuple[str, int]], rows: Sequence[Event]) -> dict[str, int]:
    """The next offset by partition."""
    found = dict(before)
    for row in rows:
        found[str(row.partition)] = max(found.get(str(row.partition), 0), row.offset + 1)
    return found


@dataclass
class Replay:
    """What a replay made: the lakehouse with rows and log."""

    lake: FakeLake
    served: int


def replay(
    folder: Path,
    seed: int,
    views: Sequence[View] = VIEWS,
    *,
    behind: int = 0,
    distort: Callable[[list[Event]], list[Event]] | None = None,
    served_by: Mapping[str, FeatureView] | None = None,
    told_as: bool = False,
) -> Replay:
    """Tell, materialize, ask and log, hour by hour.

    Args:
        behind: the store follows so many hours late.
        distort: what a faulty store makes of the rows that it is told.
        served_by: views that the online path uses in the place of others, by name.
        told_as: whether the log says that the proper views were served.
    """
    rng = np.random.default_rng(seed)
    lake, other = FakeLake(), FakeLake()
    lake.ensure_schema("raw.events", frame([]).to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
    other.ensure_schema("raw.events", lake.table("raw.events").schema())
    online = open_online(Settings(home=folder))
    log = FeatureLog(folder / "spools", lake)
    hours = told(rng)
    used = [(served_by or {}).get(v.name, v) for v in views]
    served, reached = 0, dict[str, int]()
    for n, rows in enumerate(hours):
        if rows:
            lake.tell("raw.events", frame(rows))
            kept = distort(rows) if distort else rows
            reached = offsets_after([*reached.items()], [*rows, *kept])
            other.table("raw.events").append(
                frame(kept).to_arrow(compat_level=pl.CompatLevel.oldest()), offsets=reached
            )
        if n < behind:
            continue
        materialize(_until(other, hours, n - behind), online, used)
        at = hour(n + 1) + timedelta(minutes=int(rng.integers(0, 5)))
        requests = [{"entity": f"e{i}"} for i in range(5)]
        answer = get_online_features(online, used, requests, at)
        log.append(
            vector_lines(
                request_frame(used, requests, at),
                answer.frame,
                at,
                digests={v.name: plan(v).digest for v in (views if told_as else used)},
                standing=answer.progress,
                caller="test",
            )
        )
        served += len(requests)
    log.close()
    online.close()
    return Replay(lake, served)


def _until(lake: FakeLake, hours: Sequence[Sequence[Event]], hour_: int) -> FakeLake:
    """The lakehouse after so many hours have been told."""
    table = lake.table("raw.events")
    commits = sum(1 for rows in hours[: hour_ + 1] if rows)
    if commits >= len(table.snapshots):
        return lake
    past = FakeLake(lake.first_id)
    past.tables = {
        "raw.events": type(table)(table.columns, table.first_id, table.snapshots[:commits], table.rows)
    }
    return past

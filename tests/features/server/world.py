"""A project, its online values, and a server over them in a process of its own: run as a script."""

import sys
from datetime import timedelta
from pathlib import Path

import polars as pl

import rayplat as rp
from rayplat.core.settings import Settings
from rayplat.features.materialize import materialize
from rayplat.features.online.opening import open_online
from rayplat.features.server.process import Where, serve
from tests.features.fakes import FakeLake
from tests.features.worlds import events, frame, hour

SECOND = timedelta(seconds=1)
project = rp.Project("served", owner="tests@example.com")
SOURCE = project.table(
    "raw.events",
    columns={"entity": "string", "event": "timestamp", "known": "timestamp", "x": "float64"},
    key=("entity", "event"),
    event_time="event",
    known_at="known",
    source=rp.Kafka("events"),
)
TRIPS = project.table(
    "raw.trips",
    columns={"trip": "int64", "entity": "string", "starts": "timestamp", "distance": "float64"},
    key="trip",
    event_time="starts",
    source=rp.Kafka("trips"),
)
LAST = project.feature_view(
    "last",
    source=SOURCE,
    entity="entity",
    features={"x": pl.col("x"), "missing": pl.col("x").is_null(), "at": pl.col("event")},
)
FILLED = project.feature_view(
    "filled", source=SOURCE, entity="entity", features={"x": pl.col("x")}, defaults={"x": -1.0}
)
OLD = project.feature_view(
    "old", source=SOURCE, entity="entity", features={"x": pl.col("x")}, ttl=timedelta(hours=1)
)
RECENT = project.feature_view(
    "recent", source=SOURCE, entity="entity", features={"n": rp.window("100000d").count("x")}
)
TRIP = project.request_view("trip", source=TRIPS, features={"far": pl.col("distance") > 100})
NEVER = project.feature_view("never", source=TRIPS, entity="trip", features={"d": pl.col("distance")})

ROWS = events(("a", 1, 1, 1.5), ("a", 2, 3, 2.5), ("b", 2, 2, float("nan")), ("c d", 3, 3, None))


def settings(home: str | Path) -> Settings:
    return Settings(home=Path(home))


def fill(home: str | Path) -> FakeLake:
    lake = FakeLake()
    lake.tell("raw.events", frame(ROWS))
    online = open_online(settings(home))
    materialize(lake, online, [LAST, FILLED, OLD, RECENT])
    online.close()
    return lake


if __name__ == "__main__":
    serve(
        settings(sys.argv[1]),
        __file__,
        Where(port=int(sys.argv[2]), workers=int(sys.argv[3])),
        lambda url: print(url, flush=True),
    )

__all__ = ["hour", "project"]

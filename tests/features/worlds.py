"""Declarations and rows that the feature tests share."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from rayplat.core.project.project import Project
from rayplat.core.project.source import Kafka
from rayplat.core.project.table import Table
from rayplat.core.project.view import FeatureView
from rayplat.core.project.window import window
from tests.features.oracle import Event

START = datetime(2013, 3, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
SOURCE_SCHEMA = {
    "entity": pl.String,
    "event": TIME,
    "known": TIME,
    "x": pl.Float64,
    "_partition": pl.Int32,
    "_offset": pl.Int64,
}


def hour(n: float) -> datetime:
    return START + timedelta(hours=n)


def project() -> Project:
    return Project("tests", owner="tests@example.com")


def source_table(name: str = "raw.events", known_at: str | None = "known") -> Table:
    return project().table(
        name,
        columns={"entity": "string", "event": "timestamp", "known": "timestamp", "x": "float64"},
        key=("entity", "event"),
        event_time="event",
        known_at=known_at,
        source=Kafka("events"),
    )


def latest_view(ttl: timedelta | None = None, table: Table | None = None) -> FeatureView:
    return project().feature_view(
        "last",
        source=table or source_table(),
        entity="entity",
        ttl=ttl,
        features={"x": pl.col("x"), "missing": pl.col("x").is_null(), "twice": pl.col("x") * 2},
    )


def window_view(lengths: Sequence[str] = ("5h", "2h"), table: Table | None = None) -> FeatureView:
    features = {}
    for length in lengths:
        w = window(length)
        features |= {
            f"sum_{length}": w.sum("x"),
            f"mean_{length}": w.mean("x"),
            f"count_{length}": w.count("x"),
            f"min_{length}": w.min("x"),
            f"max_{length}": w.max("x"),
            f"last_{length}": w.agg(pl.col("x").last()),
            f"rows_{length}": w.agg(pl.len()),
        }
    return project().feature_view(
        "recent", source=table or source_table(), entity="entity", features=features
    )


def frame(events: Sequence[Event]) -> pl.DataFrame:
    rows = [(e.entity, e.event, e.known, e.x, e.partition, e.offset) for e in events]
    return pl.DataFrame(rows, schema=SOURCE_SCHEMA, orient="row")


def asking(rows: Sequence[tuple[str | None, datetime]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema={"entity": pl.String, "at": TIME}, orient="row")


def events(*rows: tuple[str | None, float, float, float | None]) -> list[Event]:
    """Rows of (entity, event hour, known hour, x), with offsets as they stand."""
    return [Event(e, hour(t), hour(k), 0, i, x) for i, (e, t, k, x) in enumerate(rows)]

"""The flights of 2013 told again with late, repeated, corrected and disordered events, and asked in time.

Knows the stream and its faults, by seed; it does not know what comes of it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from harness import ROOT

import rayplat as rp
from rayplat.core.project.table import Column, Table

sys.path.insert(0, str(ROOT))
from examples.flights import data
from examples.flights import project as flights

LATE, TWICE, CORRECTED = 0.10, 0.02, 0.03
"""Shares of the events: told up to three hours after they happened; told again; told again otherwise."""

WARM_UP = timedelta(days=2)

_project = rp.Project("parity", owner="ops@example.com")


def _late(table: Table) -> Table:
    """The table with a column that says when a row was told."""
    columns = {**table.columns, "told_at": Column("timestamp")}
    return replace(table, columns=columns, known_at="told_at")


ARRIVALS, WEATHER, PLANES = _late(flights.arrivals), _late(flights.weather), flights.planes
day, three = rp.window("24h"), rp.window("3h")
hubs = _project.feature_view(
    "hubs",
    source=ARRIVALS,
    entity="origin",
    features={
        "spread_3h": three.stddev("arr_delay"),
        "last_3h": three.last("arr_delay"),
        "tails_24h": day.nunique("tailnum"),
        "p90_24h": day.quantile("arr_delay", 0.9),
        "late_24h": rp.window("24h", where=pl.col("arr_delay") > 15).count("arr_delay"),
        "worst_hopping": rp.window("3h", every="1h").max("arr_delay"),
    },
)
FEATURE_VIEWS = (
    replace(flights.at_origin, source=WEATHER),
    replace(flights.congestion, source=ARRIVALS),
    replace(flights.carrier, source=ARRIVALS),
    replace(flights.destination, source=ARRIVALS),
    replace(flights.inbound, source=ARRIVALS),
    flights.plane,
    hubs,
)
ON_DEMAND = _project.on_demand_view(
    "pressure_on_time",
    views=[FEATURE_VIEWS[1], FEATURE_VIEWS[4]],
    source=flights.departures,
    features={
        "behind": pl.col("inbound__arr_delay") - pl.col("origin_congestion__arr_delay_3h"),
        "per_mile": pl.col("inbound__dep_delay") / pl.col("distance"),
    },
)
VIEWS = (flights.calendar, *FEATURE_VIEWS, ON_DEMAND)


@dataclass(frozen=True)
class Tick:
    """A piece of the stream: what is told by its end, and who asks in it."""

    end: datetime
    told: dict[str, pl.DataFrame]
    asks: pl.DataFrame


def planes() -> pl.DataFrame:
    return pl.DataFrame(data.planes())


def ticks(begin: datetime, end: datetime, tick: timedelta, seed: int) -> Iterator[Tick]:
    """The stream from two days before `begin`; rows have offsets in the order in which they are told."""
    rng = np.random.default_rng(seed)
    period = (begin - WARM_UP, end)
    streams = {
        "raw.arrivals": _told(
            _between(data.arrivals(), "arrived_at", period), "arrived_at", "arr_delay", rng
        ),
        "raw.weather": _told(_between(data.weather(), "observed_at", period), "observed_at", "temp", rng),
    }
    asks = _between(data.departures(), "scheduled_departure", (begin, end))
    low, high = begin - WARM_UP, begin
    while low < end:
        between = pl.col("told_at").is_between(low, high, closed="left")
        told = {name: rows.filter(between).drop("\0place") for name, rows in streams.items()}
        yield Tick(
            high, told, asks.filter(pl.col("scheduled_departure").is_between(low, high, closed="left"))
        )
        low, high = high, min(high + tick, end) if high < end else end + tick


def _between(rows: pa.Table, event: str, period: tuple[datetime, datetime]) -> pl.DataFrame:
    return pl.DataFrame(rows).filter(pl.col(event).is_between(*period, closed="left"))


def _told(rows: pl.DataFrame, event: str, value: str, rng: np.random.Generator) -> pl.DataFrame:
    late = rng.random(rows.height) < LATE
    delay = np.where(late, rng.integers(5, 180, rows.height), 0)
    rows = rows.with_columns((pl.col(event) + pl.duration(minutes=pl.Series(delay))).alias("told_at"))
    again = rows.filter(pl.Series(rng.random(rows.height) < TWICE))
    after = pl.Series(rng.integers(0, 90, again.height))
    again = again.with_columns(pl.col("told_at") + pl.duration(minutes=after))
    other = rows.filter(pl.Series(rng.random(rows.height) < CORRECTED))
    other = other.with_columns(
        pl.col("told_at") + pl.duration(minutes=pl.Series(rng.integers(1, 300, other.height))),
        pl.col(value) + pl.Series(rng.integers(-5, 6, other.height)),
    )
    # Out of order: within a quarter of an hour the log has rows in no order of their times.
    told = pl.concat([rows, again, other], how="vertical_relaxed")
    place = pl.col("told_at").dt.epoch("s") // 900 + pl.Series(rng.random(told.height))
    told = told.with_columns(place.alias("\0place")).sort("\0place")
    number = np.arange(told.height)
    return told.with_columns(
        pl.Series("_partition", number % 3, dtype=pl.Int32), pl.Series("_offset", number // 3, dtype=pl.Int64)
    ).with_columns(pl.col("told_at").cast(pl.Datetime("us", "UTC")))


def month(quick: bool) -> tuple[datetime, datetime, timedelta]:
    """The period and the tick."""
    begin = datetime(2013, 3, 1, tzinfo=UTC)
    return begin, begin + timedelta(days=7 if quick else 31), timedelta(hours=3)


class WithoutLate:
    """The planted fault: a reader of the lakehouse that loses rows which come late."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def table(self, name: str) -> "WithoutLate":
        return WithoutLate(self._inner.table(name))

    def read(self, columns: Any = None, snapshot_id: int | None = None, where: str | None = None) -> pa.Table:
        rows = pl.DataFrame(self._inner.read(columns, snapshot_id=snapshot_id, where=where))
        if "told_at" in rows.columns:
            event = "arrived_at" if "arrived_at" in rows.columns else "observed_at"
            rows = rows.filter(pl.col("told_at") == pl.col(event))
        return rows.to_arrow(compat_level=pl.CompatLevel.oldest())

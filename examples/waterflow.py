"""Will more water flow in the next hour? Asked hourly, known an hour later. (A real pipe, 2022.)"""

from __future__ import annotations

import importlib.metadata

import polars as pl
import pyarrow as pa

import rayplat as rp


def recorded() -> pl.DataFrame:
    """The hourly record of the package `river`: when, and how many litres a second."""
    path = importlib.metadata.distribution("river").locate_file("river/datasets/water-flow.csv")
    time = pl.col("Time").str.to_datetime(time_unit="us", time_zone="UTC")
    frame = pl.read_csv(str(path)).select(time.alias("hour"), flow="Water flow [l/s]", pipe=pl.lit("main"))
    return frame.unique("hour", keep="first").sort("hour")


def outcomes() -> pa.Table:
    change = pl.col("flow").shift(-1) - pl.col("flow")
    following = recorded().with_columns(told_at=pl.col("hour").shift(-1), change=change)
    return following.drop_nulls().select("pipe", "hour", "told_at", "change").to_arrow()


water = rp.Project("waterflow", owner="ops@example.com")
reading = water.table(
    "water.readings",
    key=("pipe", "hour"),
    event_time="hour",
    columns={"pipe": "string", "hour": "timestamp", "flow": rp.Column("float64", unit="l/s")},
    source=rp.Kafka("water_readings", partitions=1, replay=lambda: recorded().to_arrow()),
)
outcome = water.table(
    "water.outcomes",
    key=("pipe", "hour"),
    event_time="told_at",
    columns={"pipe": "string", "hour": "timestamp", "told_at": "timestamp", "change": "float64"},
    source=rp.Kafka("water_outcomes", partitions=1, replay=outcomes),
)
angle = pl.col("hour").dt.hour().cast(pl.Float64) * (2 * 3.141592653589793 / 24)
clock = water.request_view("clock", source=reading, features={"sin": angle.sin(), "cos": angle.cos()})
now = water.feature_view("now", source=reading, entity="pipe", features={"flow": pl.col("flow")})
past = water.feature_view(
    "past",
    source=reading,
    entity="pipe",
    features={f"mean_{n}h": rp.window(f"{n}h").mean("flow") for n in (2, 6, 24)},
)


def network(inputs: int) -> object:
    from rayplat.train.tabular import TabularNet

    return TabularNet(inputs, hidden=(32,))


@water.model(
    "rising",
    rows=reading,
    label=rp.Label(outcome, pl.col("change") > 0, on=("pipe", "hour")),
    features=[clock, now, past],
    train_until="2022-04-24",
    test_until="2022-05-04",
    network=network,
)
def train(run: rp.TrainRun) -> None:
    from rayplat.train.loop import fit

    fit(run, epochs=20, batch_size=64, lr=5e-3)


water.endpoint("rising", model="rising")
water.monitor("rising", endpoint="rising")
water.replay(history_until="2022-05-04", live_until="2022-05-07")

"""Which flights will land late? Asked when a flight is due to leave, known when it has landed."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

import rayplat as rp

from . import data

CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
AIRPORTS = ["EWR", "JFK", "LGA"]

flights = rp.Project("flights", owner="ops@example.com", description="Late arrivals out of New York, 2013")

departures = flights.table(
    "raw.departures",
    key="flight_id",
    event_time="scheduled_departure",
    columns={
        "flight_id": "string",
        "scheduled_departure": "timestamp",
        "carrier": "string",
        "tailnum": "string",
        "origin": "string",
        "dest": "string",
        "distance": rp.Column("float64", unit="mi"),
    },
    source=rp.Kafka("departures", replay=data.departures),
    checks=[rp.in_range("distance", 1, 6000), rp.one_of("origin", AIRPORTS)],
)
arrivals = flights.table(
    "raw.arrivals",
    key="flight_id",
    event_time="arrived_at",
    known_at="arrived_at",
    columns={
        "flight_id": "string",
        "arrived_at": "timestamp",
        "carrier": "string",
        "tailnum": "string",
        "origin": "string",
        "dest": "string",
        "dep_delay": rp.Column("float64", unit="min"),
        "arr_delay": rp.Column("float64", unit="min"),
    },
    source=rp.Kafka("arrivals", replay=data.arrivals),
    checks=[rp.not_null("arr_delay")],
)
weather = flights.table(
    "raw.weather",
    key=("origin", "observed_at"),
    event_time="observed_at",
    columns={
        "origin": "string",
        "observed_at": "timestamp",
        "temp": rp.Column("float64", unit="degF"),
        "dewp": rp.Column("float64", unit="degF"),
        "humid": rp.Column("float64", unit="%"),
        "wind_dir": rp.Column("float64", unit="deg"),
        "wind_speed": rp.Column("float64", unit="mph"),
        "wind_gust": rp.Column("float64", unit="mph"),
        "precip": rp.Column("float64", unit="in"),
        "pressure": rp.Column("float64", unit="mbar"),
        "visib": rp.Column("float64", unit="mi"),
    },
    source=rp.Kafka("weather", replay=data.weather),
)
planes = flights.table(
    "raw.planes",
    key="tailnum",
    event_time="listed_at",
    columns={
        "tailnum": "string",
        "listed_at": "timestamp",
        "built": "float64",
        "seats": "float64",
        "engines": "float64",
    },
    source=rp.Reference(data.planes),
)

local = pl.col("scheduled_departure").dt.convert_time_zone("America/New_York")
minute = (local.dt.hour().cast(pl.Float64) * 60 + local.dt.minute()) / 1440 * 2 * 3.141592653589793

calendar = flights.request_view(
    "calendar",
    source=departures,
    features={
        "time_sin": minute.sin(),
        "time_cos": minute.cos(),
        "hour": local.dt.hour(),
        **{f"weekday_{day}": local.dt.weekday() == day for day in range(1, 8)},
        "distance": pl.col("distance") / 1000,
        **{f"carrier_{code}": pl.col("carrier") == code for code in CARRIERS},
        **{f"origin_{code}": pl.col("origin") == code for code in AIRPORTS},
    },
)
at_origin = flights.feature_view(
    "weather_at_origin",
    source=weather,
    entity="origin",
    ttl=timedelta(hours=3),
    features={
        "temp": pl.col("temp"),
        "spread": pl.col("temp") - pl.col("dewp"),
        "humid": pl.col("humid"),
        "wind_speed": pl.col("wind_speed"),
        "gust": pl.col("wind_gust").fill_null(pl.col("wind_speed")),
        "north": (pl.col("wind_dir") * 3.141592653589793 / 180).cos(),
        "precip": pl.col("precip"),
        "pressure": pl.col("pressure"),
        "visib": pl.col("visib"),
    },
)
three, one = rp.window("3h"), rp.window("1h")
congestion = flights.feature_view(
    "origin_congestion",
    source=arrivals,
    entity="origin",
    features={
        "dep_delay_3h": three.mean("dep_delay"),
        "arr_delay_3h": three.mean("arr_delay"),
        "late_share_3h": three.mean(pl.col("arr_delay") > 15),
        "landed_3h": three.count("arr_delay"),
        "arr_delay_1h": one.mean("arr_delay"),
        "dep_delay_1h": one.mean("dep_delay"),
    },
)
carrier = flights.feature_view(
    "carrier_at_origin",
    source=arrivals,
    entity=("carrier", "origin"),
    features={
        "dep_delay_6h": rp.window("6h").mean("dep_delay"),
        "arr_delay_6h": rp.window("6h").mean("arr_delay"),
    },
)
destination = flights.feature_view(
    "destination",
    source=arrivals,
    entity="dest",
    features={
        "arr_delay_6h": rp.window("6h").mean("arr_delay"),
        "landed_6h": rp.window("6h").count("arr_delay"),
    },
)
inbound = flights.feature_view(
    "inbound",
    source=arrivals,
    entity="tailnum",
    ttl=timedelta(hours=24),
    features={
        "arr_delay": pl.col("arr_delay").clip(-60, 240),
        "dep_delay": pl.col("dep_delay").clip(-30, 240),
    },
)
plane = flights.feature_view(
    "plane",
    source=planes,
    entity="tailnum",
    features={"age": 2013 - pl.col("built"), "seats": pl.col("seats"), "engines": pl.col("engines")},
)


def network(inputs: int) -> object:
    """A perceptron with two hidden layers; its standardisation travels with the weights."""
    from rayplat.train.tabular import TabularNet

    return TabularNet(inputs, hidden=(128, 64))


@flights.model(
    "late_arrival",
    rows=departures,
    label=rp.Label(arrivals, pl.col("arr_delay") > 15, on="flight_id"),
    features=[calendar, at_origin, congestion, carrier, destination, inbound, plane],
    train_until="2013-08-01",
    test_until="2013-09-01",
    network=network,
    workers=(1, 2),
    gates=[rp.Gate("roc_auc", at_least=0.65), rp.Gate("log_loss", beats="base_rate")],
    space=rp.Space(
        lr=rp.Float(1e-4, 3e-2, log=True),
        weight_decay=rp.Float(1e-6, 1e-1, log=True),
        batch_size=rp.Choice((512, 1024, 2048, 4096)),
    ),
)
def train(run: rp.TrainRun) -> None:
    """Plain PyTorch under Accelerate, by the loop that the platform brings."""
    from rayplat.train.loop import fit

    values = {"batch_size": 2048, "lr": 2e-3, "weight_decay": 1e-4, **run.params}
    fit(run, epochs=6, **values)


flights.endpoint("late_arrival", model="late_arrival", autoscale=rp.Autoscale(1, 2))
flights.monitor(
    "late_arrival", endpoint="late_arrival", drift=rp.Drift(psi_over=0.2), decay=rp.Decay("roc_auc", 0.05)
)
flights.replay(history_until="2013-09-01", live_until="2013-09-08", tick=timedelta(hours=6))

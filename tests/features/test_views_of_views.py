"""Views made of views, from declaration to training rows: the same as computed by hand."""

import polars as pl

from rayplat.core.project.model import Label
from rayplat.core.project.source import Kafka
from rayplat.features.lake import pin
from rayplat.features.offline import get_historical_features
from rayplat.features.training_rows import assemble
from tests.features.fakes import FakeLake
from tests.features.worlds import TIME, hour, project


def _logged(columns):
    times = {name: TIME for name in ("starts", "at") if name in columns}
    rows = pl.DataFrame(
        columns, schema_overrides={**times, "late": pl.Boolean} if "late" in columns else times
    )
    return rows.with_columns(pl.lit(0, pl.Int32).alias("_partition"), pl.int_range(pl.len()).alias("_offset"))


def test_derived_views_other_columns_and_keys_through_features_reach_the_training_rows():
    p = project()
    trips = p.table(
        "raw.trips",
        columns={"trip": "int64", "origin": "int64", "dest": "int64", "starts": "timestamp", "late": "bool"},
        key="trip",
        event_time="starts",
        known_at="starts",
        source=Kafka("trips"),
    )
    ends = p.table(
        "raw.ends",
        columns={"trip": "int64", "at": "timestamp", "late": "bool"},
        key="trip",
        event_time="at",
        source=Kafka("ends"),
    )
    places = p.table("raw.places", key="place", columns={"place": "int64", "hub": "int64", "size": "float64"})
    place = p.feature_view(
        "place",
        source=places,
        entity="place",
        features={"hub": pl.col("hub"), "size": pl.col("size")},
        defaults={"size": -1.0},
    )
    there = p.add_view(place.with_name("there").with_join_key_map({"place": "dest"}))
    hub = p.add_view(place.with_name("hub").with_join_key_map({"place": "origin_place__hub"}))
    origin = p.add_view(place.with_name("origin_place").with_join_key_map({"place": "origin"}))
    assert hub.through == ()  # declared before what it is asked through
    hub = p.add_view(place.with_name("origin_hub").with_join_key_map({"place": "origin_place__hub"}))
    assert hub.through == (origin,)
    features = {
        "ratio": pl.col("there__size") / pl.col("origin_hub__size"),
        "same": pl.col("dest") == pl.col("origin"),
    }
    both = p.on_demand_view("both", views=[there, hub], source=trips, features=features)

    @p.model(
        "m",
        rows=trips,
        label=Label(ends, pl.col("late"), on="trip"),
        features=[both],
        train_until=hour(2),
        test_until=hour(9),
        network=lambda inputs: inputs,
    )
    def train(run):
        return run

    lake = FakeLake()
    sizes = {"place": [1, 2, 3], "hub": [3, 3, None], "size": [10.0, None, 4.0]}
    rows = {
        "trip": [1, 2],
        "origin": [1, 3],
        "dest": [2, 1],
        "starts": [hour(1), hour(3)],
        "late": [None, None],
    }
    told = {"trip": [1, 2], "at": [hour(2), hour(4)], "late": [True, False]}
    for name, columns in (("raw.places", sizes), ("raw.trips", rows), ("raw.ends", told)):
        lake.tell(name, _logged(columns))
    snapshots = pin(lake, ["raw.places", "raw.trips", "raw.ends"])
    asking = _logged(rows).drop("_partition", "_offset")
    found = get_historical_features(asking, "starts", [both, hub], lake, snapshots)
    assert found["both__ratio"].to_list() == [-1.0 / 4.0, 10.0 / -1.0]
    assert found["both__same"].to_list() == [False, False]
    assert found["origin_hub__size"].to_list() == [4.0, -1.0]
    made, unlabelled = assemble(lake, p.models[0], snapshots)
    assert (made["both__ratio"].to_list(), unlabelled) == ([-0.25, -10.0], 0)

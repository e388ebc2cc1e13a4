"""Training sets: content, identity, the guard against leakage."""

import dataclasses
from datetime import timedelta

import polars as pl
import pytest

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.events import EventBus, TrainingSetBuilt
from rayplat.core.project.model import Label
from rayplat.core.project.source import Kafka
from rayplat.core.project.window import window
from rayplat.features.lake import pin
from rayplat.features.offline import get_historical_features
from rayplat.features.training_rows import content_digest
from rayplat.features.training_set import build_training_set
from tests.features.fakes import FakeLake, FakeTable
from tests.features.worlds import TIME, hour, project

P = project()
TRIPS = P.table(
    "raw.trips",
    columns={"trip": "int64", "place": "string", "starts": "timestamp", "km": "float64"},
    key="trip",
    event_time="starts",
    source=Kafka("trips"),
)
ENDS = P.table(
    "raw.ends",
    columns={
        "trip": "int64",
        "place": "string",
        "ended": "timestamp",
        "told": "timestamp",
        "late": "float64",
    },
    key="trip",
    event_time="ended",
    known_at="told",
    source=Kafka("ends"),
)
TRIP = P.request_view("trip", source=TRIPS, features={"km": pl.col("km"), "far": pl.col("km") > 10})
RECENT = P.feature_view(
    "recent",
    source=ENDS,
    entity="place",
    features={"n": window("3h").agg(pl.len()), "late": window("3h").mean("late")},
)


def declare(**changes):
    p = project()
    arguments = {
        "rows": TRIPS,
        "label": Label(source=ENDS, value=pl.col("late") > 5, on="trip"),
        "features": [TRIP, RECENT],
        "train_until": hour(10),
        "test_until": hour(20),
        "network": lambda inputs: inputs,
        **changes,
    }
    p.model("late", **arguments)(lambda run: run)
    return p.models[0]


def trips(*rows, first=0):
    made = [(i, place, hour(starts), km, 0, first + n) for n, (i, place, starts, km) in enumerate(rows)]
    schema = {"trip": pl.Int64, "place": pl.String, "starts": TIME, "km": pl.Float64}
    return pl.DataFrame(made, schema={**schema, "_partition": pl.Int32, "_offset": pl.Int64}, orient="row")


def ends(*rows, first=0):
    made = [
        (i, place, hour(ended), hour(told), late, 0, first + n)
        for n, (i, place, ended, told, late) in enumerate(rows)
    ]
    schema = {"trip": pl.Int64, "place": pl.String, "ended": TIME, "told": TIME, "late": pl.Float64}
    return pl.DataFrame(made, schema={**schema, "_partition": pl.Int32, "_offset": pl.Int64}, orient="row")


@pytest.fixture
def lake():
    lake = FakeLake()
    lake.tell(
        "raw.trips",
        trips(
            (1, "a", 1, 5.0),
            (2, "a", 4, 20.0),
            (3, "b", 9, None),
            (4, "a", 11, 30.0),
            (5, "a", 12, 7.0),
            (6, "a", 21, 7.0),
            (7, "a", 10, 1.0),
            (2, "a", 4, 99.0),
        ),
    )
    lake.tell(
        "raw.ends",
        ends(
            (1, "a", 2, 3, 9.0),
            (2, "a", 5, 6, 1.0),
            (3, "b", 10, 11, None),
            (4, "a", 13, 14, 6.0),
            (5, "a", 14, 25, 6.0),
            (7, "a", 11, 12, 2.0),
            (7, "a", 12, 13, 8.0),
        ),
    )
    return lake


def rows_of(lake, built):
    return pl.DataFrame(lake.table(built.table).read(snapshot_id=built.snapshot_id))


def test_content(lake):
    heard = []
    bus = EventBus()
    bus.subscribe(TrainingSetBuilt, heard.append)
    built = build_training_set(lake, declare(), bus)
    made = rows_of(lake, built)
    # 3 has no outcome yet, 5 has one that was known only after the test period, 6 lies outside.
    assert made.select("trip", "at", "label", "split").rows() == [
        (1, hour(1), True, "train"),
        (2, hour(4), False, "train"),
        (7, hour(10), True, "test"),
        (4, hour(11), True, "test"),
    ]
    assert (built.rows_train, built.rows_test, built.unlabelled) == (2, 2, 2)
    features = made.select("trip__km", "trip__far", "recent__n", "recent__late").fill_nan(None)
    assert features.dtypes == [pl.Float32] * 4
    # The first known row of trip 2 is the question; trip 1 ended at 2 and was told at 3, so 2 sees it.
    assert features.rows() == [
        (5, 0, 0, None),
        (20, 1, 1, 9),
        (1, 0, 0, None),
        (30, 1, 0, None),
    ]
    assert features.null_count().row(0) == (0, 0, 0, 3)
    assert made.get_column("recent__late").is_null().sum() == 0
    assert built.sources == {"raw.trips": 1000, "raw.ends": 1000}
    assert [(e.model, e.snapshot_id, e.rows, e.digest) for e in heard] == [
        ("late", built.snapshot_id, 4, built.digest)
    ]
    assert built.digest == content_digest(made)


def test_building_again_finds_the_same_snapshot(lake):
    first = build_training_set(lake, declare(), EventBus())
    assert build_training_set(lake, declare(), EventBus()) == first
    assert len(lake.table("training.late").history()) == 1


def test_a_crash_before_the_commit_leaves_nothing_and_a_rerun_builds(lake):
    class Dying(FakeTable):
        def overwrite(self, data, properties=None):
            raise KeyboardInterrupt

    whole = build_training_set(lake, declare(), EventBus())
    made = lake.tables.pop("training.late")
    lake.tables["training.late"] = Dying(made.columns)
    with pytest.raises(KeyboardInterrupt):
        build_training_set(lake, declare(), EventBus())
    assert lake.table("training.late").history() == []
    lake.tables["training.late"] = FakeTable(made.columns)
    assert build_training_set(lake, declare(), EventBus()) == whole
    assert len(lake.table("training.late").history()) == 1


def test_rows_known_after_the_test_period_change_nothing_and_are_not_read_in_full(lake):
    first = build_training_set(lake, declare(), EventBus())
    lake.tell("raw.trips", trips((8, "a", 22, 1.0), first=8))
    lake.tell("raw.ends", ends((5, "a", 14, 26, 1.0), (8, "a", 23, 24, 1.0), first=7))
    lake.table("raw.ends").reads.clear()
    assert build_training_set(lake, declare(), EventBus()) == first
    assert [read["where"].startswith("(") for read in lake.table("raw.ends").reads] == [True]
    assert "_offset >= 7" in lake.table("raw.ends").reads[0]["where"]


def test_a_late_row_known_before_the_end_of_the_test_period_makes_another_snapshot(lake):
    first = build_training_set(lake, declare(), EventBus())
    lake.tell("raw.ends", ends((5, "a", 14, 19, 6.0), first=7))
    second = build_training_set(lake, declare(), EventBus())
    assert second.snapshot_id != first.snapshot_id
    assert second.unlabelled == first.unlabelled - 1
    assert second.sources["raw.ends"] == 1001
    # The first one is still what it was.
    assert content_digest(rows_of(lake, first)) == first.digest


def test_a_late_row_that_changes_no_value_makes_none(lake):
    first = build_training_set(lake, declare(), EventBus())
    lake.tell("raw.ends", ends((99, "z", 1, 2, 1.0), first=7))
    assert build_training_set(lake, declare(), EventBus()) == first


def test_rows_that_were_removed_or_replaced_make_another_snapshot(lake):
    first = build_training_set(lake, declare(), EventBus())
    table = lake.table("raw.ends")
    table.overwrite(table.read().slice(1))
    assert build_training_set(lake, declare(), EventBus()).snapshot_id != first.snapshot_id


def test_another_definition_makes_another_and_going_back_finds_the_first(lake):
    first = build_training_set(lake, declare(), EventBus())
    other = build_training_set(lake, declare(features=[TRIP]), EventBus())
    later = build_training_set(lake, declare(train_until=hour(10.5)), EventBus())
    assert len({first.snapshot_id, other.snapshot_id, later.snapshot_id}) == 3
    assert rows_of(lake, other).select(TRIP.names).equals(rows_of(lake, first).select(TRIP.names))
    assert build_training_set(lake, declare(), EventBus()) == first


def test_the_same_rows_told_in_another_order_have_the_same_digest(lake):
    first = build_training_set(lake, declare(), EventBus())
    other = FakeLake()
    for name in ("raw.trips", "raw.ends"):
        table = pl.DataFrame(lake.table(name).read())
        other.tell(name, table[4:])
        other.tell(name, table[:4])
    assert build_training_set(other, declare(), EventBus()).digest == first.digest


def test_a_reference_table_that_changes_makes_another(lake):
    places = P.table("raw.places", columns={"place": "string", "size": "int64"}, key="place")
    view = P.feature_view("place", source=places, entity="place", features={"size": pl.col("size")})

    def tell(size):
        data = pl.DataFrame({"place": ["a"], "size": [size]}).to_arrow(compat_level=pl.CompatLevel.oldest())
        lake.ensure_schema("raw.places", data.schema).overwrite(data)

    tell(1)
    first = build_training_set(lake, declare(features=[view]), EventBus())
    assert build_training_set(lake, declare(features=[view]), EventBus()) == first
    tell(2)
    assert build_training_set(lake, declare(features=[view]), EventBus()).digest != first.digest


def test_a_request_view_over_the_label_is_refused(lake):
    outcome = P.request_view("outcome", source=ENDS, features={"late": pl.col("late")})
    with pytest.raises(UserError, match="the answer would be among the inputs"):
        build_training_set(lake, declare(features=[outcome]), EventBus())
    other = P.table("raw.other", columns={"k": "int64"}, key="k")
    foreign = P.request_view("foreign", source=other, features={"k": pl.col("k")})
    with pytest.raises(UserError, match=r"declare it over 'raw\.trips'"):
        build_training_set(lake, declare(features=[foreign]), EventBus())


def test_a_view_over_a_label_that_does_not_say_when_it_is_known_is_refused(lake):
    blind = dataclasses.replace(ENDS, known_at=None)
    view = dataclasses.replace(RECENT, source=blind)
    label = Label(source=blind, value=pl.col("late") > 5, on="trip")
    with pytest.raises(UserError, match=r"declare known_at on 'raw\.ends'"):
        build_training_set(lake, declare(features=[view], label=label), EventBus())
    assert not lake.exists("training.late")


def test_what_cannot_be_trained_on_is_told(lake):
    text = P.request_view("text", source=TRIPS, features={"place": pl.col("place")})
    with pytest.raises(UserError, match="'text__place' is String"):
        build_training_set(lake, declare(features=[text]), EventBus())
    with pytest.raises(UserError, match="no labelled rows to train on"):
        build_training_set(lake, declare(train_until=hour(0)), EventBus())
    with pytest.raises(UserError, match="no labelled rows to test on"):
        build_training_set(lake, declare(train_until=hour(19)), EventBus())
    with pytest.raises(UserError, match="is Float64, not true or false"):
        build_training_set(lake, declare(label=Label(ENDS, pl.col("late"), "trip")), EventBus())
    with pytest.raises(NotFoundError):
        build_training_set(FakeLake(), declare(), EventBus())


def test_historical_features_are_those_of_the_pinned_snapshots(lake):
    rows = pl.DataFrame(
        {"place": ["a", "a"], "km": [1.0, 50.0], "at": [hour(7), hour(14)]}, schema_overrides={"at": TIME}
    )
    pinned = pin(lake, ["raw.ends"])
    before = get_historical_features(rows, "at", [RECENT, TRIP], lake, pinned)
    assert before.columns == [*rows.columns, *RECENT.names, *TRIP.names]
    assert before.get_column("recent__n").to_list() == [1, 2]
    assert before.get_column("trip__far").to_list() == [False, True]
    lake.tell("raw.ends", ends((50, "a", 13, 13, 1.0), first=7))
    assert get_historical_features(rows, "at", [RECENT, TRIP], lake, pinned).equals(before)
    now = get_historical_features(rows, "at", [RECENT, TRIP], lake, pin(lake, ["raw.ends"]))
    assert now.get_column("recent__n").to_list() == [1, 3]
    assert set(lake.table("raw.ends").reads[-1]["columns"]) == {
        "place",
        "ended",
        "told",
        "late",
        "_partition",
        "_offset",
    }
    with pytest.raises(UserError, match=r"no snapshot of 'raw\.ends' is pinned"):
        get_historical_features(rows, "at", [RECENT], lake, {})
    with pytest.raises(UserError, match="the asking rows lack"):
        get_historical_features(rows.drop("km"), "at", [TRIP], lake, {})
    assert timedelta(hours=3) == RECENT.features["n"].length


def test_what_a_training_reads_is_held_before_it_is_read_and_found_again(lake):
    held: list[tuple[str, int]] = []
    reads: list[int] = []

    def hold(table: str, snapshot_id: int) -> None:
        held.append((table, snapshot_id))
        reads.append(sum(len(table.reads) for table in lake.tables.values()))

    model, bus = declare(), EventBus()
    built = build_training_set(lake, model, bus, hold)
    wanted = {**built.sources, built.table: built.snapshot_id}
    assert dict(held) == wanted
    assert reads[: len(built.sources)] == [0] * len(built.sources)
    held.clear()
    assert build_training_set(lake, model, bus, hold) == built
    assert dict(held) == wanted

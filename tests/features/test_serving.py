"""Requests to online features: values, types, faults and provenance."""

from datetime import timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.project.source import Kafka
from rayplat.features.instants import to_micros
from rayplat.features.materialize import materialize
from rayplat.features.online.apply import erase
from rayplat.features.online.head import VALUES_AT, text_of
from rayplat.features.online.keys import entity_key
from rayplat.features.online.lmdb_store import LmdbOnlineStore
from rayplat.features.online.lookup import Lookup, lookup
from rayplat.features.serving import get_online_features
from tests.features.fakes import FakeLake
from tests.features.worlds import events, frame, hour, latest_view, project, window_view

ROWS = project().table(
    "raw.trips",
    columns={
        "trip": "int64",
        "entity": "string",
        "starts": "timestamp",
        "distance": "float64",
        "booked": "timestamp",
        "vip": "bool",
    },
    key="trip",
    event_time="starts",
    source=Kafka("trips"),
)
TRIP = project().request_view(
    "trip",
    source=ROWS,
    features={
        "hour": pl.col("starts").dt.hour(),
        "far": pl.col("distance") > 100,
        "vip": pl.col("vip"),
        "lead_s": (pl.col("starts") - pl.col("booked")).dt.total_seconds(),
    },
)


@pytest.fixture
def store(tmp_path: Path):
    lake = FakeLake()
    lake.tell("raw.events", frame(events(("a", 1, 1, 1.0), ("a", 2, 3, 2.0), ("b", 2, 2, 7.0))))
    opened = LmdbOnlineStore(f"lmdb:///{tmp_path}/online.db")
    materialize(lake, opened, [latest_view(), window_view(["5h"])])
    yield opened
    opened.close()


def request(**values):
    return {"entity": "a", "distance": 150, "booked": "2013-02-28T23:00:00+00:00", "vip": True, **values}


def test_a_batch_is_answered_in_its_order_with_provenance(store):
    views = [TRIP, latest_view(), window_view(["5h"])]
    answered = get_online_features(
        store, views, [request(entity=e) for e in ("b", "a", None, "never", "a")], hour(2)
    )
    assert answered.frame.columns == [name for view in views for name in view.names]
    assert answered.frame.get_column("last__x").to_list() == [7, 1, None, None, 1]
    assert answered.frame.get_column("recent__count_5h").to_list() == [1, 1, None, 0, 1]
    assert answered.frame.get_column("trip__hour").to_list() == [2] * 5
    assert answered.provenance[0] == {
        "last": {"event_time": hour(2), "partition": 0, "offset": 2, "snapshot_id": 1000},
        "recent": {"event_time": hour(2), "partition": 0, "offset": 2, "snapshot_id": 1000},
    }
    assert answered.provenance[1]["last"]["offset"] == 0
    assert answered.provenance[2:4] == [{"last": None, "recent": None}] * 2
    # An hour later the row of hour 2 has become known.
    assert get_online_features(store, views, [request()], hour(3)).provenance[0]["last"]["offset"] == 1


def test_the_event_time_of_the_asking_row_is_the_time_of_the_question(store):
    given = get_online_features(store, [TRIP], [request(starts="2013-03-01T09:30:00-05:00")], hour(2))
    assert given.frame.row(0, named=True) == {
        "trip__hour": 14,
        "trip__far": True,
        "trip__vip": True,
        "trip__lead_s": 15.5 * 3600,
    }


def test_all_faults_of_a_batch_are_told_at_once(store):
    bad = [
        {"entity": "a"},
        request(entity=5, distance="far", vip=1),
        request(booked="2013-02-28T23:00:00"),
        request(distance=True),
    ]
    with pytest.raises(UserError) as told:
        get_online_features(store, [TRIP, latest_view()], bad, hour(2))
    for fault in (
        "request 0 has no 'distance'",
        "request 0 has no 'booked'",
        "request 1 has entity = 5, not a string",
        "request 1 has distance = 'far', not a float64",
        "request 1 has vip = 1, not a bool",
        "request 2 has booked = '2013-02-28T23:00:00', not a timestamp",
        "request 3 has distance = True, not a float64",
    ):
        assert fault in told.value.what


def test_a_time_without_a_zone_or_too_far_behind_is_refused(store):
    with pytest.raises(UserError, match="no time zone"):
        get_online_features(store, [latest_view()], [{"entity": "a"}], hour(2).replace(tzinfo=None))
    with pytest.raises(UserError, match="behind the newest row"):
        get_online_features(store, [latest_view()], [{"entity": "a"}], hour(3) - timedelta(days=1, seconds=1))
    # Exactly as far behind as the store reaches is answered.
    answered = get_online_features(store, [latest_view()], [{"entity": "a"}], hour(3) - timedelta(days=1))
    assert answered.frame.get_column("last__x").to_list() == [None]


def test_no_requests_and_request_views_alone(store):
    none = get_online_features(store, [TRIP, latest_view()], [], hour(2))
    assert none.frame.height == 0
    assert none.provenance == []
    assert get_online_features(store, [TRIP], [request()], hour(2)).provenance == [{}]


def test_freshness_tells_how_old_each_value_is(store):
    answered = get_online_features(
        store, [latest_view(), window_view(["5h"])], [request(), request(entity="never")], hour(3.5)
    )
    assert answered.freshness == [
        {"last": timedelta(hours=1.5), "recent": timedelta(hours=1.5)},
        {"last": None, "recent": None},
    ]
    assert {name: p.snapshot_id for name, p in answered.progress.items()} == {"last": 1000, "recent": 1000}


def test_a_value_expires_when_it_is_read(store, tmp_path):
    lake, view = FakeLake(), latest_view(timedelta(hours=2))
    lake.tell("raw.events", frame(events(("a", 1, 1, 1.0), ("a", 2, 6, 2.0))))
    materialize(lake, store, [view])

    def value(at):
        return get_online_features(store, [view], [{"entity": "a"}], at).frame.item(0, 0)

    # Exactly as old as the ttl still answers; the late row was too old when it came.
    assert [value(hour(h)) for h in (3, 5, 6)] == [1, None, None]
    assert value(hour(3) + timedelta(microseconds=1)) is None
    assert get_online_features(store, [view], [{"entity": "a"}], hour(9)).provenance == [{"last": None}]


def test_defaults_stand_for_null_and_required_features_are_an_error(store):
    lake = FakeLake()
    lake.tell("raw.events", frame(events(("a", 1, 1, 1.0), ("b", 1, 1, None))))
    table = latest_view().source

    def declare(**more):
        features = {"x": pl.col("x"), "y": pl.col("x") + 1}
        view = project().feature_view("d", source=table, entity="entity", features=features, **more)
        materialize(lake, store, [view])
        return view

    def rows(view, *entities):
        requests = [{"entity": entity} for entity in entities]
        return get_online_features(store, [view], requests, hour(2)).frame.rows()

    filled = declare(defaults={"x": -1.0})
    assert rows(filled, "a", "b", "never", None) == [(1, 2), (-1, None), (-1, None), (-1, None)]
    required = declare(required=("y",))
    assert rows(required, "a") == [(1, 2)]
    with pytest.raises(UserError, match=r"request 1 has no d__y, which is required, for entity = \["):
        rows(required, "a", "never")
    counted = window_view(["5h"]).features["mean_5h"]
    windowed = project().feature_view(
        "w", source=table, entity="entity", features={"mean": counted}, defaults={"mean": 0.5}
    )
    materialize(lake, store, [windowed])
    assert rows(windowed, "a", "b", "never", None) == [(1,), (0.5,), (0.5,), (0.5,)]


def test_views_of_views_and_the_same_view_for_other_columns(store):
    view = latest_view()
    other = view.with_name("theirs").with_join_key_map({"entity": "partner"})
    ratio = project().on_demand_view(
        "ratio",
        views=[view, other],
        features={"of": pl.col("last__x") / pl.col("theirs__x"), "far": pl.col("last__x") > 1},
    )
    asked = [{"entity": "a", "partner": "b"}, {"entity": "b", "partner": None}]
    answered = get_online_features(store, [ratio, other], asked, hour(3))
    assert answered.frame.columns == [*ratio.names, *other.names]
    assert answered.frame.get_column("ratio__of").to_list() == [2 / 7, None]
    assert answered.frame.get_column("theirs__x").to_list() == [7, None]
    # The values are kept once, under the name of the view that both are.
    assert sorted(name.partition("@")[0] for name in store.views()) == ["last", "recent"]


def test_an_entity_that_is_erased_is_as_if_it_had_never_been(store):
    views = [latest_view(), window_view(["5h"])]
    assert len(erase(store, views, {"entity": "a"})) == 2
    assert erase(store, views, {"entity": "a"}) == erase(store, views, {"trip": 1}) == []
    answered = get_online_features(store, views, [request(), request(entity="b")], hour(3))
    assert answered.frame.get_column("last__x").to_list() == [None, 7]
    assert answered.provenance[0] == {"last": None, "recent": None}


def test_another_definition_is_another_key_space(store):
    changed = latest_view(timedelta(hours=9))
    with pytest.raises(NotFoundError, match="never materialized"):
        get_online_features(store, [changed], [request()], hour(3))
    assert get_online_features(store, [latest_view()], [request()], hour(3)).frame.item(0, 0) == 2


def test_the_short_way_gives_the_same_values_ready_to_be_sent(store):
    for view in (latest_view(), window_view(["5h"])):
        found = Lookup(store, view)
        keys = [entity_key([name]) for name in ("a", "never", "b")]
        for at in (hour(2), hour(3), hour(30)):
            answered = get_online_features(store, [view], [{"entity": e} for e in ("a", "never", "b")], at)
            blobs = found.blobs(keys, to_micros(at))
            for row, blob in zip(answered.frame.rows(), blobs, strict=True):
                values = row if blob is None else tuple(orjson.loads(text_of(blob)))
                assert values == row or (blob is None and not any(row))
                if blob is not None:
                    assert tuple(found.kept.layout.values(blob, VALUES_AT)) == row
        assert lookup(store, [view], [keys[:1]], to_micros(hour(3)))[0][0] is not None
    with pytest.raises(UserError, match="behind the newest row"):
        found.blobs(keys, to_micros(hour(3) - timedelta(days=2)))

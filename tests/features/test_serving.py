"""Requests to online features: values, types, faults and provenance."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from rayplat.core.errors import UserError
from rayplat.core.project.source import Kafka
from rayplat.features.materialize import materialize
from rayplat.features.online import SqliteOnlineStore
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
    opened = SqliteOnlineStore(f"sqlite:///{tmp_path}/online.db")
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

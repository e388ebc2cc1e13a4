from datetime import UTC, datetime, timedelta, timezone

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rayplat as rp
from rayplat.serve.request import MAX_FAULTS, MAX_INSTANCES, RequestError, RequestForm, form_of

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def _form():
    project = rp.Project("p", owner="a@example.com")
    rows = project.table(
        "raw.departures",
        key="flight_id",
        event_time="scheduled",
        columns={
            "flight_id": rp.Column("int64", nullable=False),
            "scheduled": rp.Column("timestamp", nullable=False),
            "origin": rp.Column("string", nullable=False, description="airport"),
            "distance": rp.Column("float64", unit="mi"),
            "overnight": "bool",
            "note": "string",
        },
    )
    weather = project.table(
        "raw.weather",
        key=("origin", "seen"),
        event_time="seen",
        columns={"origin": "string", "seen": "timestamp", "wind": "float64"},
    )
    at_origin = project.feature_view(
        "weather", source=weather, entity="origin", features={"wind": pl.col("wind")}
    )
    flight = project.request_view(
        "flight",
        source=rows,
        features={
            "far": pl.col("distance") > 1000,
            "hour": pl.col("scheduled").dt.hour(),
            "overnight": pl.col("overnight"),
        },
    )
    project.model(
        "late",
        rows=rows,
        label=rp.Label(rows, pl.col("overnight"), on="flight_id"),
        features=[at_origin, flight],
        train_until="2023-01-01",
        test_until="2023-02-01",
        network=lambda n: None,
    )(lambda run: None)
    return form_of(project.models[0])


FORM = _form()
GOOD = {"origin": "JFK", "distance": 500, "overnight": False, "scheduled": "2013-09-01T12:00:00Z"}


def _parse(instances, **more):
    return FORM.parse(orjson.dumps({"instances": instances, **more}), NOW)


def _faults(body):
    with pytest.raises(RequestError) as caught:
        FORM.parse(body if isinstance(body, bytes) else orjson.dumps(body), NOW)
    return caught.value.status, caught.value.faults


def test_what_is_needed_are_entities_and_inputs_of_the_request():
    assert FORM.needed == ("scheduled", "origin", "distance", "overnight")
    assert FORM.describe()["origin"] == {
        "type": "string",
        "needed": True,
        "nullable": False,
        "description": "airport",
    }
    assert FORM.describe()["distance"]["unit"] == "mi"
    assert FORM.describe()["flight_id"]["needed"] is False


def test_a_good_request_becomes_typed_rows():
    asked = _parse([{**GOOD, "flight_id": 7}], at="2013-09-01T14:00:00+02:00")
    assert asked.at == datetime(2013, 9, 1, 12, tzinfo=UTC)
    assert asked.instances == [
        {
            "origin": "JFK",
            "distance": 500.0,
            "overnight": False,
            "scheduled": datetime(2013, 9, 1, 12, tzinfo=UTC),
            "flight_id": 7,
        }
    ]
    assert isinstance(asked.instances[0]["distance"], float)


def test_the_time_of_the_question_is_now_and_fills_the_event_time():
    asked = _parse([{k: v for k, v in GOOD.items() if k != "scheduled"}])
    assert asked.at == NOW
    assert asked.instances[0]["scheduled"] == NOW
    naive = _parse([GOOD], at="2013-09-01T12:00:00")
    assert naive.at == datetime(2013, 9, 1, 12, tzinfo=UTC)


def test_null_is_a_value_where_the_column_may_be_null():
    assert _parse([{**GOOD, "distance": None}]).instances[0]["distance"] is None
    assert _faults({"instances": [{**GOOD, "origin": None}]})[1] == (
        "instances[0].origin: null, but a string must be given",
    )


def test_every_fault_is_listed_with_its_place():
    status, faults = _faults(
        {
            "instances": [
                {"origin": 7, "distance": "far", "overnight": 1, "oops": 1},
                "JFK",
                {**GOOD, "flight_id": 2.5, "scheduled": "yesterday"},
            ],
            "at": "noon",
            "threshold": 0.5,
        }
    )
    assert status == 422
    assert faults == (
        'at: "noon" is not an ISO 8601 time such as 2013-09-01T12:00:00Z',
        '"threshold": not known here; the body has `instances` and `at`',
        "instances[0].origin: 7 is not a string",
        'instances[0].distance: "far" is not a number (float64)',
        "instances[0].overnight: 1 is not true or false (bool)",
        'instances[0]."oops": raw.departures has no such column',
        'instances[1]: "JFK" is not an object',
        'instances[2].scheduled: "yesterday" is not an ISO 8601 time such as 2013-09-01T12:00:00Z',
        "instances[2].flight_id: 2.5 is not a whole number (int64)",
    )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"instances": [NaN]}', b"[" * 5000])
def test_what_is_not_json_is_400(body):
    status, faults = _faults(body)
    assert status == 400
    assert len(faults) == 1


@pytest.mark.parametrize("body", [[], 3, "x", None, {}, {"instances": []}, {"instances": {}}])
def test_a_body_without_instances_is_refused(body):
    status, faults = _faults(body)
    assert status == 422
    assert any("instances" in f or "not an object" in f for f in faults)


def test_too_many_instances_are_refused_at_once():
    status, faults = _faults({"instances": [{}] * (MAX_INSTANCES + 1)})
    assert (status, len(faults)) == (422, 1)


def test_a_flood_of_faults_is_cut_and_counted():
    _, faults = _faults({"instances": [3] * (MAX_FAULTS + 20)})
    assert len(faults) == MAX_FAULTS + 1
    assert faults[-1] == "and 20 faults more"


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, True, "1"])
def test_an_int64_is_a_whole_number_that_fits(number):
    status, _ = _faults(b'{"instances":[{"flight_id":%s}]}' % str(number).lower().encode())
    assert status == 422


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 5, True, [], "é"])
def test_a_time_outside_the_calendar_is_a_fault_not_a_crash(time):
    assert _faults({"instances": [GOOD], "at": time})[0] == 422


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["instances", "at", "origin", "scheduled"]) | st.text(), inner, max_size=4
            )
        ),
        max_leaves=20,
    )
)
def test_no_json_crashes_the_reader(content):
    try:
        body = orjson.dumps(content)
    except orjson.JSONEncodeError:
        return
    refused = None
    try:
        FORM.parse(body, NOW)
    except RequestError as error:
        refused = error
    assert refused is None or (refused.status in {400, 422} and orjson.dumps(refused.faults))


def test_a_time_with_an_offset_is_the_same_instant():
    zone = timezone(timedelta(hours=-5))
    asked = _parse([{**GOOD, "scheduled": datetime(2013, 9, 1, 7, tzinfo=zone).isoformat()}])
    assert asked.instances[0]["scheduled"] == datetime(2013, 9, 1, 12, tzinfo=UTC)


def test_a_vector_is_so_many_finite_numbers():
    form = RequestForm("t", {"v": rp.Column("vector(3)")}, ("v",), None)

    def read(value):
        return form.parse(orjson.dumps({"instances": [{"v": value}]}), NOW).instances[0]["v"]

    assert read([1, 2.5, -3]) == [1.0, 2.5, -3.0]
    assert read(None) is None
    for wrong in ([1, 2], [1, 2, 3, 4], "abc", 7, [1, "2", 3], [1, None, 3], [1, True, 3], [1, 1e39, 3]):
        with pytest.raises(RequestError, match=r"instances\[0\].v: "):
            read(wrong)

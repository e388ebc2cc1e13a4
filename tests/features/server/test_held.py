"""The fast path is taken where it can be, and left where it must."""

from datetime import timedelta

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.features.online.opening import open_online
from rayplat.features.server.held import Fast, _names
from tests.features.server import world
from tests.features.worlds import hour

NOW = int((hour(5)).timestamp() * 1e6)


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    home = tmp_path_factory.mktemp("held")
    world.fill(home)
    opened = open_online(world.settings(home))
    yield opened
    opened.close()


def fast(view, online, now=NOW):
    return Fast(view, online, lambda: now, local=True)


def test_plain_keys_of_row_transforms_are_answered(online):
    found = fast(world.LAST, online).find(["a", "nobody"])
    assert found is not None
    assert list(found.events) == [int(hour(2).timestamp() * 1e6), None]
    assert found.body == b'[2.5,false,"2013-03-01T02:00:00+00:00"],[null,null,null]'


@pytest.mark.parametrize("keys", [[1], [None], [True], ["a", 1.5], [["a"]], ["\ud800"]])
def test_other_keys_are_left_to_the_general_path(online, keys):
    assert fast(world.LAST, online).find(keys) is None


@given(
    st.one_of(
        st.lists(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from('",\\[]\n')))),
        st.lists(st.integers(-(2**63), 2**63 - 1)),
        st.lists(st.booleans()),
    )
)
def test_names_are_those_of_the_store(keys):
    kind = type(keys[0]) if keys else str
    names, joined = _names(orjson.dumps(keys), kind)
    assert names == [orjson.dumps([key]) for key in keys]
    assert joined == b"\n".join(names)


@pytest.mark.parametrize("view", [world.FILLED, world.RECENT, world.NEVER])
def test_other_views_are_left_to_the_general_path(online, view):
    assert fast(view, online).find(["a"] if view is not world.NEVER else [1]) is None


def test_a_question_before_the_newest_row_is_left_to_the_general_path(online):
    before = int(hour(2.5).timestamp() * 1e6)
    assert fast(world.LAST, online, before).find(["a"]) is None
    assert fast(world.LAST, online, before).find(["b"]) is not None


@pytest.mark.parametrize(
    ("after", "there"), [(timedelta(hours=1), True), (timedelta(hours=1, microseconds=1), False)]
)
def test_ttl_ends_with_its_last_microsecond(online, after, there):
    now = int((hour(3) + after).timestamp() * 1e6)
    found = fast(world.OLD, online, now).find(["c d"])
    assert found is not None
    assert (found.events[0] is not None) == there


def test_entities_of_several_columns(tmp_path):
    import rayplat as rp
    from rayplat.features.materialize import materialize
    from tests.features.fakes import FakeLake

    project = rp.Project("pairs", owner="tests@example.com")
    columns = {"a": "string", "n": "int64", "at": "timestamp", "x": "float64"}
    source = project.table(
        "raw.pairs", columns=columns, key=("a", "n", "at"), event_time="at", source=rp.Kafka("pairs")
    )
    view = project.feature_view("pairs", source=source, entity=("a", "n"), features={"x": pl.col("x")})
    lake = FakeLake()
    row = {"a": ["p"], "n": [7], "at": [hour(1)], "x": [0.1], "_partition": [0], "_offset": [0]}
    types = {"at": pl.Datetime("us", "UTC"), "_partition": pl.Int32}
    lake.tell("raw.pairs", pl.DataFrame(row, schema_overrides=types))
    online = open_online(world.settings(tmp_path))
    materialize(lake, online, [view])
    found = fast(view, online).find([["p", 7], ["p", 8]])
    assert found is not None
    assert found.body == b"[0.1],[null]"
    assert fast(view, online).find([["p", "7"]]) is None
    assert fast(view, online).find(["p"]) is None
    online.close()

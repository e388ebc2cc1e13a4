"""The fast path is taken where it can be, and left where it must."""

import random
from dataclasses import replace
from datetime import timedelta

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rayplat as rp
from rayplat.features.materialize import materialize
from rayplat.features.online.keys import store_key
from rayplat.features.online.opening import open_online
from rayplat.features.plan import plan
from rayplat.features.server.held import Fast, _names
from rayplat.features.server.remembered import Read, Remembered
from tests.features.fakes import FakeLake
from tests.features.server import world
from tests.features.worlds import events, frame, hour

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
    assert _names(orjson.dumps(keys), kind) == [orjson.dumps([key]) for key in keys]


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


class Clock:
    def __init__(self, now: int):
        self.now = now

    def __call__(self) -> int:
        return self.now


def told(found):
    return found and (found.at_us, list(found.events), found.body, found.sizes)


def logged(found):
    """What the log is given, by entity."""
    entry = found.entry
    return [(entry.known.names[place], entry.known.rows[place]) for place in entry.places]


@pytest.mark.parametrize("view", [world.LAST, world.OLD])
def test_what_is_remembered_is_what_would_be_read_again(tmp_path, view):
    seed = 20_130_301
    print(f"seed {seed}")
    draw = random.Random(seed)
    lake = world.fill(tmp_path)
    online, writer = (open_online(world.settings(tmp_path)) for _ in range(2))
    clock = Clock(int(hour(2.5).timestamp() * 1e6))
    kept = Fast(view, online, clock, local=True, logged=True)
    names = ["a", "b", "c d", "nobody", "late", 'quo"ted']
    rows, answered = list(world.ROWS), 0
    for step in range(80):
        turn = draw.random()
        if turn < 0.1:
            at = draw.uniform(2, 6)
            (row,) = events((draw.choice(names[:5]), at, at + draw.random(), step / 7))
            rows.append(replace(row, offset=len(rows)))
            lake.tell("raw.events", frame(rows[-1:]))
            materialize(lake, writer, [view])
        elif turn < 0.15:
            writer.delete_entity(store_key(plan(view)), orjson.dumps([draw.choice(names)]))
        clock.now += draw.choice([0, 1_000_000, 600_000_000])
        keys = draw.choices(names, k=draw.randrange(6))
        binary = draw.random() < 0.3
        anew = Fast(view, online, clock, local=True, logged=True).find(keys, binary=binary)
        found = kept.find(keys, binary=binary)
        assert told(found) == told(anew)
        if found is not None and keys:
            answered += 1
            assert logged(found) == logged(anew)
    assert answered > 20
    online.close()
    writer.close()


def test_what_is_remembered_is_bounded(online):
    known = Remembered((1, b"", b""), b"", most_bytes=1_000)
    known.keep(["a"], [b'["a"]'], Read([1], [b"[1]"], [b"1"], 1))
    assert not known.full
    known.keep(["b"], [b'["b"]'], Read([2], [b"[2]"], [bytes(1_000)], 1))
    assert known.full
    assert known.find(["a", "c", "b"]) == [0, None, 1]


def test_to_a_mapping_one_and_true_are_the_same_and_here_they_are_not(tmp_path):
    project = rp.Project("flags", owner="tests@example.com")
    columns = {"flag": "bool", "at": "timestamp", "x": "float64"}
    source = project.table(
        "raw.flags", columns=columns, key=("flag", "at"), event_time="at", source=rp.Kafka("flags")
    )
    view = project.feature_view("flags", source=source, entity="flag", features={"x": pl.col("x")})
    lake = FakeLake()
    row = {"flag": [True], "at": [hour(1)], "x": [0.1], "_partition": [0], "_offset": [0]}
    types = {"at": pl.Datetime("us", "UTC"), "_partition": pl.Int32}
    lake.tell("raw.flags", pl.DataFrame(row, schema_overrides=types))
    online = open_online(world.settings(tmp_path))
    materialize(lake, online, [view])
    asked = fast(view, online)
    assert told(asked.find([True, False]))[2] == b"[0.1],[null]"
    assert asked.find([1]) is None
    assert asked.find([1.0]) is None
    assert told(asked.find([True]))[2] == b"[0.1]"
    online.close()

"""The oracle, the offline engine and the online path agree on every random world."""

from datetime import timedelta
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from rayplat.core.errors import UserError
from rayplat.features.online.apply import write_rows
from rayplat.features.online.kept import encode_schema
from rayplat.features.online.keys import SLACK
from rayplat.features.online.lmdb_store import LmdbOnlineStore
from rayplat.features.online.store import Progress
from rayplat.features.plan import plan
from rayplat.features.point_in_time import join, needed
from rayplat.features.serving import get_online_features
from tests.features import oracle
from tests.features.oracle import Event
from tests.features.worlds import asking, frame, hour, latest_view, window_view

LENGTHS = {"5h": timedelta(hours=5), "2h": timedelta(hours=2)}
ENTITIES = st.sampled_from(["a", "b", None])
VALUES = st.one_of(st.none(), st.integers(-40, 40).map(lambda n: n / 4))
TTLS = st.one_of(st.none(), st.integers(1, 30).map(lambda n: timedelta(hours=n)))


@st.composite
def worlds(draw: st.DrawFn) -> list[Event]:
    count = draw(st.integers(0, 16))
    made = []
    for i in range(count):
        event = draw(st.integers(0, 60))
        delay = draw(st.one_of(st.just(0), st.integers(-5, 40)))
        partition = draw(st.integers(0, 1))
        made.append(Event(draw(ENTITIES), hour(event), hour(event + delay), partition, i, draw(VALUES)))
    return draw(st.permutations(made))


QUESTIONS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "never", None]), st.integers(-1, 105).map(hour)), max_size=6
)


@settings(max_examples=80, deadline=None)
@given(worlds(), QUESTIONS, TTLS)
def test_offline_latest_is_the_oracle(world, questions, ttl):
    view = latest_view(ttl)
    joined = join(asking(questions), "at", view, frame(world)).select(view.names)
    assert joined.rows() == [_latest(world, *q, ttl) for q in questions]


@settings(max_examples=80, deadline=None)
@given(worlds(), QUESTIONS)
def test_offline_windows_are_the_oracle(world, questions):
    view = window_view(list(LENGTHS))
    joined = join(asking(questions), "at", view, frame(world)).select(view.names)
    assert joined.rows() == [_windows(world, *q) for q in questions]


def _latest(world, entity, at, ttl):
    row = oracle.latest(world, entity, at, ttl)
    if row is None:
        return (None, None, None)
    return (row.x, row.x is None, None if row.x is None else row.x * 2)


def _windows(world, entity, at):
    return tuple(
        oracle.windowed(world, entity, at, length, aggregate)
        for length in LENGTHS.values()
        for aggregate in oracle.AGGREGATES
    )


def write(store, view, rows, chunks, seed):
    """Write rows in chunks that overlap and come in any order."""
    rng = np.random.default_rng(seed)
    prepared = plan(view)
    source = needed(rows, prepared)
    reached = None
    parts = [source[np.flatnonzero(rng.random(source.height) < 0.6)] for _ in range(chunks)]
    for part in [*parts, source.sample(fraction=1, shuffle=True, seed=seed), *parts[:1]]:
        done = Progress(
            None, {"step": 0 if reached is None else reached.offsets["step"] + 1}, encode_schema(source)
        )
        write_rows(store, prepared, part, done, expected=reached)
        reached = done


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds(), QUESTIONS, TTLS, st.tuples(st.integers(0, 3), st.integers(0, 2**32 - 1)))
def test_online_is_the_oracle_whatever_the_order_of_writes(tmp_path_factory, world, questions, ttl, how):
    chunks, seed = how
    store = LmdbOnlineStore(f"lmdb:///{tmp_path_factory.mktemp('online')}/o")
    views = [latest_view(ttl), window_view(list(LENGTHS))]
    for view in views:
        write(store, view, frame(world), chunks, seed)
    for entity, at in questions:
        newest = max((e.known for e in world if e.entity == entity), default=None) if entity else None
        ask = {"entity": entity}
        if newest is not None and at < newest - SLACK:
            with pytest.raises(UserError, match="behind the newest row"):
                get_online_features(store, views, [ask], at)
            continue
        answered = get_online_features(store, views, [ask], at)
        assert answered.frame.row(0) == (*_latest(world, entity, at, ttl), *_windows(world, entity, at))
        offline = asking([(entity, at)])
        for view in views:
            offline = join(offline, "at", view, frame(world))
        assert offline.drop("entity", "at").equals(answered.frame)
        row = oracle.latest(world, entity, at, ttl)
        told = answered.provenance[0]["last"]
        assert (told and (told["event_time"], told["partition"], told["offset"])) == (
            row and (row.event, row.partition, row.offset)
        )
    store.close()


def test_what_is_answered_depends_on_the_rows_alone(tmp_path: Path):
    rng = np.random.default_rng(11)
    world = [
        Event(str(rng.integers(0, 4)), hour(h), hour(h + int(rng.integers(0, 30))), i % 2, i, float(i))
        for i, h in enumerate(rng.integers(0, 200, 300).tolist())
    ]
    newest = {n: max(e.known for e in world if e.entity == n) for n in "0123"}
    for view in (latest_view(), window_view(list(LENGTHS))):
        answers = []
        for seed in range(4):
            store = LmdbOnlineStore(f"lmdb:///{tmp_path}/{view.name}{seed}")
            write(store, view, frame(world), seed, seed)
            found = [
                get_online_features(store, [view], [{"entity": n}], newest[n] - SLACK + timedelta(hours=h))
                for n in "0123"
                for h in (0, 1, 7, 12, 23.5, 24, 40)
            ]
            answers.append([(answer.frame.rows(), answer.provenance) for answer in found])
            store.close()
        assert answers[0] == answers[1] == answers[2] == answers[3]


def test_floats_are_equal_to_the_bit_in_a_join_of_many_and_a_request_of_one(tmp_path: Path):
    rng = np.random.default_rng(3)
    n = 4000
    values = rng.normal(size=n) * 10.0 ** rng.integers(-9, 9, n)
    hours = np.sort(rng.random(n) * 40)
    world = frame(
        [
            Event("ab"[i % 2], hour(h), hour(h + rng.random()), 0, i, float(v))
            for i, (h, v) in enumerate(zip(hours, values, strict=True))
        ]
    )
    view = window_view(["12h"])
    store = LmdbOnlineStore(f"lmdb:///{tmp_path}/o")
    write(store, view, world, 2, 1)
    times = [hour(h) for h in 20 + rng.random(30) * 20]
    offline = join(asking([("ab"[i % 2], t) for i, t in enumerate(times)]), "at", view, world).select(
        view.names
    )
    online = pl.concat(
        get_online_features(store, [view], [{"entity": "ab"[i % 2]}], t).frame for i, t in enumerate(times)
    )
    assert offline.get_column("recent__rows_12h").min() > 200
    assert offline.equals(online)
    store.close()

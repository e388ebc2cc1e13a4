"""The row that answers each question, whatever the parts, their order and their bounds, is the oracle's."""

from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import timedelta

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from rayplat.core.errors import UserError
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.join.asked import by_time, sorted_rows
from rayplat.features.join.keys import keys_of
from rayplat.features.join.parts import FramePart
from rayplat.features.join.stretch import Reading
from rayplat.features.join.ways import way
from rayplat.features.join.winners import Tied, winners
from tests.features import oracle
from tests.features.oracle import Event
from tests.features.worlds import asking, frame, hour, source_table

ENTITIES = st.sampled_from(["a", "b", "c", None])
TTLS = st.one_of(st.none(), st.integers(1, 30).map(lambda n: timedelta(hours=n)))
QUESTIONS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "never", None]), st.integers(-1, 105).map(hour)), max_size=12
)


@st.composite
def worlds(draw: st.DrawFn) -> list[Event]:
    made = []
    for i in range(draw(st.integers(0, 24))):
        event = draw(st.integers(0, 40))
        delay = draw(st.one_of(st.just(0), st.integers(-5, 40)))
        made.append(Event(draw(ENTITIES), hour(event), hour(event + delay), draw(st.integers(0, 1)), i, None))
    return draw(st.permutations(made))


@dataclass(frozen=True)
class Blind(FramePart):
    """A part that says nothing about its bounds."""

    def bounds(self, column):
        return None


def found(world, questions, cut, *, ordered=None, blind=False, ttl=None):
    """The offset of the row that answers each question."""
    rows, ask = frame(world), asking(questions)
    parts = [(Blind if blind else FramePart)(rows[i : i + cut]) for i in range(0, rows.height, cut)]
    at = ask.get_column("at").to_physical().to_numpy()
    asked = by_time(keys_of([ask.get_column("entity").to_arrow()]), at)
    sorting = Future()
    sorting.set_result(asked)
    table = source_table()
    length = None if ttl is None else ttl // timedelta(microseconds=1)
    times = (int(at.min()), int(at.max())) if len(at) else (0, 0)
    path = way(parts, table, "entity", asked.keys, times, length)
    if ordered is not None:
        path = replace(path, ordered=ordered, enough=3)
    reading = Reading(table, ("entity",), asked.keys, ())
    try:
        made = winners(parts, path, reading, sorting, ties_matter=True)
    except Tied:
        reading = replace(reading, ties=(OFFSET, PARTITION))
        made = winners(parts, path, reading, sorting, ties_matter=False)
    answer = np.empty(len(at), np.int64)
    answer[asked.order] = made.row
    return [None if row < 0 else rows.row(row, named=True)["_offset"] for row in answer.tolist()]


def wanted(world, questions):
    rows = [oracle.latest(world, entity, at, None) for entity, at in questions]
    return [None if row is None else row.offset for row in rows]


@settings(max_examples=150, deadline=None)
@given(worlds(), QUESTIONS, st.integers(1, 30), st.sampled_from([None, False]), st.booleans())
def test_parts_of_any_size_in_any_order(world, questions, cut, ordered, blind):
    assert found(world, questions, cut, ordered=ordered, blind=blind) == wanted(world, questions)


@settings(max_examples=60, deadline=None)
@given(worlds(), QUESTIONS, st.integers(1, 30), st.sampled_from([None, False]))
def test_parts_that_rise_by_visibility(world, questions, cut, ordered):
    world = sorted(world, key=lambda e: max(e.event, e.known))
    assert found(world, questions, cut, ordered=ordered) == wanted(world, questions)


@settings(max_examples=60, deadline=None)
@given(worlds(), QUESTIONS, st.integers(1, 8), TTLS)
def test_what_is_too_old_may_be_left_unread_and_nothing_else(world, questions, cut, ttl):
    answers = found(world, questions, cut, ttl=ttl)
    by_offset = {event.offset: event for event in world}
    for (entity, at), answer in zip(questions, answers, strict=True):
        row = oracle.latest(world, entity, at, None)
        young = row is not None and (ttl is None or at - row.event <= ttl)
        if young:
            assert answer == row.offset
        elif answer is not None:
            assert at - by_offset[answer].event > ttl


def test_many_rows_agree_whichever_way_they_are_walked():
    seed = 20
    rng = np.random.default_rng(seed)
    print("seed", seed)
    events = rng.integers(0, 3000, 5_000)
    late = events + np.where(rng.random(5_000) < 0.2, rng.integers(0, 300, 5_000), 0)
    world = [
        Event(f"e{k}", hour(int(e)), hour(int(v)), 0, i, None)
        for i, (k, e, v) in enumerate(zip(rng.integers(0, 50, 5_000).tolist(), events, late, strict=True))
    ]
    world.sort(key=lambda e: max(e.event, e.known))
    questions = [
        (f"e{k}", hour(int(t)))
        for k, t in zip(rng.integers(0, 60, 500).tolist(), rng.integers(-5, 3400, 500), strict=True)
    ]
    ways = [
        found(world, questions, 1000),
        found(world, questions, 1000, ordered=False),
        wanted(world, questions),
    ]
    assert ways[0] == ways[1] == ways[2]
    assert sum(answer is None for answer in ways[0]) > 20


def test_an_error_of_one_part_is_told_and_nobody_waits_for_ever():
    rows = frame([Event("a", hour(i), hour(i), 0, i, 1.0) for i in range(50)])
    broken = rows.with_columns(pl.col("event").dt.replace_time_zone(None))
    ask = asking([("a", hour(60))])
    asked = by_time(
        keys_of([ask.get_column("entity").to_arrow()]), ask.get_column("at").to_physical().to_numpy()
    )
    parts = [FramePart(rows), FramePart(broken), FramePart(rows), FramePart(rows)]
    table = source_table()
    sorting = Future()
    sorting.set_result(asked)
    path = way(parts, table, "entity", asked.keys, (int(asked.at[0]), int(asked.at[-1])), None)
    with pytest.raises(UserError, match="without a time zone"):
        winners(parts, path, Reading(table, ("entity",), asked.keys, ()), sorting, ties_matter=False)


@pytest.mark.parametrize("numbers", ["rise with time", "fall with time"])
def test_the_last_row_answers_only_where_positions_rise_with_time(numbers):
    """Row 1 and row 2 have one time, on both sides of a seam: the greater position answers either way."""
    rows = frame([Event("a", hour(h), hour(h), 0, i, None) for i, h in enumerate([0, 5, 5, 9])])
    parts = [FramePart(rows[:2]), FramePart(rows[2:])]
    if numbers == "fall with time":
        parts = [FramePart(rows[2:]), FramePart(rows[:2])]
    table = source_table(known_at=None)
    ask = asking([("a", hour(6)), ("a", hour(4)), ("never", hour(9)), (None, hour(9)), ("a", hour(-1))])
    at = ask.get_column("at").to_physical().to_numpy()
    asked = by_time(keys_of([ask.get_column("entity").to_arrow()]), at)
    sorting = Future()
    sorting.set_result(asked)
    path = way(parts, table, "entity", asked.keys, (int(at.min()), int(at.max())), None)
    assert path.ordered
    reading = Reading(table, ("entity",), asked.keys, ())
    answers = {}
    for aged in (True, False):
        made = winners(parts, path, reading, sorting, ties_matter=False, aged=aged)
        answer = np.empty(len(at), np.int64)
        answer[asked.order] = made.row
        answers[aged] = answer.tolist()
        # Event times are left out only by the walk that keeps the last row.
        assert len(made.event) == (len(at) if aged or numbers == "fall with time" else 0)
    assert answers[False] == answers[True] == ([2, 0] if numbers == "rise with time" else [3, 2]) + [-1] * 3


def test_rows_of_equal_times_stay_as_they_stand():
    rng = np.random.default_rng(5)
    for span in (3, 1 << 40):
        times = rng.integers(0, 50, 300_000) * span
        assert (sorted_rows(times) == np.argsort(times, kind="stable")).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(-(2**62), 2**62), st.integers(-5, 5)), max_size=40))
def test_times_of_any_span_are_sorted(times):
    values = np.array(times, np.int64)
    assert values[sorted_rows(values)].tolist() == sorted(times)

"""Where positions say what offsets say, offsets are not carried along; the answers are the oracle's."""

from dataclasses import dataclass, field

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given, settings

from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import asked_at
from rayplat.features.join.log_order import in_log_order
from rayplat.features.join.parts import FramePart
from rayplat.features.join.stream import Asking, Source, features
from rayplat.features.plan import plan
from rayplat.features.questions import keys_as
from tests.features import oracle
from tests.features.oracle import Event
from tests.features.worlds import asking, frame, hour, latest_view, source_table

TIES = (OFFSET, PARTITION)


def log(offsets, partitions=None):
    given_too = [0] * len(offsets) if partitions is None else partitions
    kinds = {OFFSET: pl.Int64, PARTITION: pl.Int32}
    return pl.DataFrame({OFFSET: offsets, PARTITION: given_too}, schema=kinds)


def in_parts(frame, cut):
    return [FramePart(frame[i : i + cut]) for i in range(0, frame.height, cut)]


@pytest.mark.parametrize("cut", [1, 2, 3, 6])
@pytest.mark.parametrize(
    ("offsets", "partitions", "ordered"),
    [
        ([3, 4, 7, 8, 9, 20], None, True),
        ([3, 4, 7, 8, 9, 20], [5] * 6, True),
        ([3, 4, 7, 7, 9, 20], None, False),
        ([3, 4, 7, 6, 9, 20], None, False),
        ([3, 4, 7, 8, None, 20], None, False),
        ([3, 4, 7, 8, 9, 20], [0, 0, 0, 1, 1, 1], False),
        ([3, 4, 7, 8, 9, 20], [0, 0, None, 0, 0, 0], False),
    ],
)
def test_offsets_of_one_partition_that_rise(offsets, partitions, ordered, cut):
    assert in_log_order(in_parts(log(offsets, partitions), cut), TIES) is ordered


def test_a_source_without_rows_or_without_one_of_the_columns():
    assert in_log_order([], TIES)
    assert in_log_order([FramePart(log([])), FramePart(log([1])), FramePart(log([]))], TIES)
    assert in_log_order(in_parts(log([1, 2, 3]).select(OFFSET), 2), (OFFSET,))
    assert not in_log_order(in_parts(log([1, 2, 3], [0, 1, 1]).select(PARTITION), 2), (PARTITION,))


@dataclass(frozen=True)
class Watched(FramePart):
    """A part that notes which columns are read together."""

    reads: list[tuple[str, ...]] = field(default_factory=list)

    def batches(self, columns):
        self.reads.append(tuple(columns))
        return super().batches(columns)


def answers(world, questions, cut, table):
    view, rows, source = latest_view(table=table), asking(questions), frame(world)
    reads: list[tuple[str, ...]] = []
    parts = [Watched(source[i : i + cut], reads) for i in range(0, source.height, cut)]
    schema = source.to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    ask = Asking(keys_as(source.select("entity").schema, rows, view.asks), asked_at(rows, "at"))
    found = features([plan(view)], Source(view.source, schema, parts), ask)[0].get_column("last__x")
    return found.to_list(), reads


def wanted(world, questions):
    rows = [oracle.latest(world, entity, at, None) for entity, at in questions]
    return [None if row is None else row.x for row in rows]


@st.composite
def tied_worlds(draw: st.DrawFn, *, late: bool) -> list[Event]:
    """Events at few times, in the order of one partition's log or of none."""
    made = []
    partitions = st.integers(0, draw(st.integers(0, 1)))
    for i in range(draw(st.integers(0, 24))):
        event = draw(st.integers(0, 4))
        known = event + draw(st.integers(0, 2)) if late else event
        entity = draw(st.sampled_from(["a", "b", None]))
        made.append(Event(entity, hour(event), hour(known), draw(partitions), i, float(i)))
    in_order = draw(st.sampled_from(["log", "visible", "any"]))
    if in_order == "visible":
        return sorted(made, key=lambda e: max(e.event, e.known))
    return made if in_order == "log" else draw(st.permutations(made))


QUESTIONS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "never", None]), st.integers(-1, 8).map(hour)), max_size=12
)


@settings(max_examples=100, deadline=None)
@given(st.data(), QUESTIONS, st.integers(1, 30), st.booleans())
def test_ties_are_the_oracles_in_any_order(data, questions, cut, late):
    world = data.draw(tied_worlds(late=late))
    table = source_table(known_at="known" if late else None)
    assert answers(world, questions, cut, table)[0] == wanted(world, questions)


def test_offsets_are_read_with_times_only_where_positions_do_not_settle():
    world = [Event("a", hour(i // 2), hour(i // 2), 0, i, float(i)) for i in range(20)]
    questions = [("a", hour(i)) for i in range(-1, 12)]
    found, reads = answers(world, questions, 6, source_table())
    assert found == wanted(world, questions) == [None, *(2.0 * i + 1 for i in range(10)), 19.0, 19.0]
    assert not [columns for columns in reads if "event" in columns and OFFSET in columns]
    swapped = [Event("a", e.event, e.known, 0, 19 - e.offset, e.x) for e in world]
    found, reads = answers(swapped, questions, 6, source_table())
    assert found == wanted(swapped, questions) == [None, *(2.0 * i for i in range(10)), 18.0, 18.0]
    assert [columns for columns in reads if "event" in columns and OFFSET in columns]

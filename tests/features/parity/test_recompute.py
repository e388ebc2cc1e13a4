"""What a store could know: one join for all questions against one join a question."""

import random
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from rayplat.features.instants import asked_at
from rayplat.features.parity.compare import differing
from rayplat.features.parity.reach import chains
from rayplat.features.parity.recompute import AT, distinct, recompute
from rayplat.features.point_in_time import FEW, join
from tests.features.oracle import Event
from tests.features.parity.world import LAST, RECENT, SOURCE
from tests.features.worlds import SOURCE_SCHEMA, TIME, frame, hour


def rows(rng: np.random.Generator, count: int) -> pl.DataFrame:
    """Few times and few entities: many ties, in every order of arrival."""
    offsets = {0: 0, 1: 0}
    made = []
    for _ in range(count):
        partition = int(rng.integers(2))
        event, late = int(rng.integers(12)), int(rng.choice([0, 0, 1, 5]))
        known = None if rng.random() < 0.03 else hour(event + late)
        entity = None if rng.random() < 0.03 else f"e{rng.integers(3)}"
        x = None if rng.random() < 0.1 else float(rng.normal())
        made.append(Event(entity, hour(event), known, partition, offsets[partition], x))
        offsets[partition] += 1
    return frame(made)


def one_by_one(view, asking, source, offsets, of):
    answers = []
    for i in range(asking.height):
        had = pl.lit(True)
        if of[i] >= 0:
            ends = offsets[of[i]]
            had = pl.any_horizontal(
                (pl.col("_partition") == p) & (pl.col("_offset") < ends.get(str(p), 0)) for p in (0, 1)
            )
        answers.append(join(asking.slice(i, 1), AT, view, source.filter(had)).select(view.names))
    return pl.concat(answers, how="vertical_relaxed")


TOLD_AT_ONCE = replace(LAST, source=replace(SOURCE, known_at=None))
TOLD_AS_EVENT = replace(RECENT, source=replace(SOURCE, event_time="known"))
TIMELESS = replace(LAST, source=replace(SOURCE, event_time=None, known_at=None), ttl=None)
VIEWS = {
    "rows": LAST,
    "windows": RECENT,
    "no known time": TOLD_AT_ONCE,
    "one time": TOLD_AS_EVENT,
    "no time": TIMELESS,
}


def test_rows_of_one_time_that_a_store_had_at_one_moment_rank_by_when_they_were_known():
    """The later one was known later, but stands before the other in the log."""
    source = frame([Event("e0", hour(3), hour(4), 1, 7, 1.0), Event("e0", hour(3), hour(3), 1, 10, 2.0)])
    asking = pl.DataFrame({"entity": ["e0"], AT: [hour(5)]}, schema={"entity": pl.String, AT: TIME})
    found, of = distinct([{"0": 0, "1": 11}])
    assert recompute(RECENT, asking, source, found, of).known["recent__last"].to_list() == [1.0]
    assert one_by_one(RECENT, asking, source, found, of)["recent__last"].to_list() == [1.0]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("orderly", [True, False])
def test_one_join_gives_what_one_join_a_question_gives(view, orderly):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    for _ in range(3):
        source = rows(rng, 120)
        steps = np.sort(rng.integers(0, 70, (6, 2)), axis=0)
        offsets = [{"0": int(a), "1": int(b)} for a, b in steps]
        times = rng.integers(0, 18, 40)
        chosen = rng.integers(0, 6, 40)
        if orderly:
            times, chosen = np.sort(times), np.sort(chosen)
        of_raw = [offsets[i] if rng.random() > 0.05 else None for i in chosen]
        asking = pl.DataFrame(
            {"entity": [f"e{i}" for i in rng.integers(0, 4, 40)], AT: [hour(int(t)) for t in times]},
            schema={"entity": pl.String, AT: TIME},
        )
        found, of = distinct(of_raw)
        got = recompute(view, asking, source, found, of)
        want = one_by_one(view, asking, source, found, of)
        for name in view.names:
            assert not differing(got.known[name], want[name]).any(), (name, got.known[name], want[name])
        whole = join(asking, AT, view, source).select(view.names)
        assert not any(differing(got.all[n], whole[n]).any() for n in view.names)


def test_a_store_that_goes_on_needs_one_chain():
    at = np.arange(100, dtype=np.int64)
    offsets = [{"0": i} for i in range(10)]
    found = chains(offsets, at // 10, at)
    assert len(found) == 1
    assert found[0].questions.tolist() == list(range(100))


def test_two_stores_that_read_partitions_in_another_order_need_two():
    offsets = [{"0": 5, "1": 0}, {"0": 0, "1": 5}]
    assert len(chains(offsets, np.array([0, 1]), np.array([1, 2]))) == 2


def test_questions_keep_their_places():
    asking = pl.DataFrame(
        {"entity": ["e1", "e0"], AT: [hour(9), hour(1)]}, schema={"entity": pl.String, AT: TIME}
    )
    assert asked_at(asking, AT).tolist() == sorted(asked_at(asking, AT).tolist(), reverse=True)
    source = frame([Event("e0", hour(0), hour(0), 0, 0, 1.0), Event("e1", hour(8), hour(8), 0, 1, 2.0)])
    got = recompute(LAST, asking, source, [{"0": 1}, {"0": 2}], np.array([1, 0]))
    assert got.known["last__x"].to_list() == [2.0, 1.0]


def test_a_source_that_is_large_enough_to_be_streamed_gives_the_same():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    count = FEW + 2_000
    event = rng.integers(0, 500, count)
    source = pl.DataFrame(
        {
            "entity": [f"e{i}" for i in rng.integers(0, 50, count)],
            "event": [hour(int(h)) for h in event],
            "known": [hour(int(h)) for h in event + rng.choice([0, 0, 1, 5], count)],
            "x": rng.normal(size=count),
            "_partition": np.zeros(count, np.int32),
            "_offset": np.arange(count),
        },
        schema=SOURCE_SCHEMA,
    )
    asking = pl.DataFrame(
        {"entity": ["e0", "e7", "e49"], AT: [hour(90), hour(200), hour(480)]},
        schema={"entity": pl.String, AT: TIME},
    )
    ends = [{"0": count // 3}, {"0": count}]
    of = np.array([0, 1, 1])
    got = recompute(LAST, asking, source, ends, of)
    want = one_by_one(LAST, asking, source, ends, of)
    assert not any(differing(got.known[name], want[name]).any() for name in LAST.names)

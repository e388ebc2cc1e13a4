"""Rows in any order, by blocks and in one pass, give the bits of plain Python; also what is not plain."""

import math

import numpy as np
import polars as pl
import pytest

from rayplat.core.errors import UserError
from rayplat.core.project.source import Kafka
from rayplat.core.project.window import window
from rayplat.features.instants import asked_at
from rayplat.features.plan import plan
from rayplat.features.point_in_time import join
from rayplat.features.questions import ask, keys_as, number_entities
from rayplat.features.timeline import timeline
from rayplat.features.windows import unsorted
from rayplat.features.windows.aggregate import aggregate
from tests.features.aggregates.nasty import EDGES, same
from tests.features.worlds import asking, hour, project

PLAIN = ("sum", "mean", "min", "max", "count", "first", "last")
TYPES = {"entity": "string", "event": "timestamp", "known": "timestamp", "x": "float64", "n": "int64"}
SHAPES = {
    "short": window("2h"),
    "long": window("30h"),
    "hop": window("5h", every="2h"),
    "some": window("30h").filter(pl.col("n") > 0),
}
PYTHON = 10**9


def view(kinds=PLAIN, columns="xn", *, late=True, shapes=SHAPES):
    source = project().table(
        "raw.any",
        columns=TYPES,
        key=("entity", "event"),
        event_time="event",
        known_at="known" if late else None,
        source=Kafka("any"),
    )
    features = {
        f"{shape}_{column}_{kind}": getattr(w, kind)(column)
        for shape, w in shapes.items()
        for column in columns
        for kind in kinds
    }
    return project().feature_view("w", source=source, entity="entity", features=features)


def by_python(declared, asked, rows):
    line = timeline(rows, declared.source, number_entities(rows, ("entity",)))
    questions = ask(rows, asked, ("entity",), asked_at(asked, "at"))
    return aggregate(plan(declared), line, questions, PYTHON)[0]


def by_blocks(declared, asked, rows, size=40):
    keys = keys_as(rows.select("entity").schema, asked, ("entity",))
    return unsorted.features(plan(declared), rows, keys, asked_at(asked, "at"), size)


def assert_same(one: pl.DataFrame, two: pl.DataFrame):
    assert one.schema == two.schema
    for name in one.columns:
        for row, (left, right) in enumerate(zip(one[name].to_list(), two[name].to_list(), strict=True)):
            assert same(left, right), (name, row, left, right)


def told(rng, x, delay=0.0, entities=7):
    """Rows of values in a random order, with equal times, rows without entity, and nulls."""
    n = len(x)
    event = rng.integers(0, 60, n)
    frame = pl.DataFrame(
        {
            "entity": [None if e == 0 else str(e) for e in rng.integers(0, entities, n).tolist()],
            "event": [hour(h) for h in event.tolist()],
            "known": [hour(h) for h in (event + np.floor(delay * rng.exponential(1, n))).tolist()],
            "x": pl.Series(x),
            "n": rng.integers(-9, 9, n),
            "_partition": rng.integers(0, 2, n).astype(np.int32),
            "_offset": rng.permutation(n),
        }
    )
    return frame.with_columns(pl.when(pl.col("n") == 3).then(None).otherwise("x").alias("x"))


def questions(rng, count=60, entities=8):
    names = [None if e == 0 else str(e) for e in rng.integers(0, entities, count).tolist()]
    return asking(
        [(name, hour(h)) for name, h in zip(names, rng.integers(-3, 99, count).tolist(), strict=True)]
    )


N = 400
VALUES = {
    "alike": lambda rng: rng.normal(size=N),
    "whole": lambda rng: rng.integers(-5, 5, N).astype(float),
    "zeros": lambda rng: np.where(rng.random(N) < 0.5, -0.0, 0.0),
    "far apart": lambda rng: rng.normal(size=N) * 10.0 ** rng.integers(-300, 300, N),
    "one far": lambda rng: np.where(np.arange(N) == 50, 1e300, rng.normal(size=N)),
    "subnormal": lambda rng: rng.integers(-3, 3, N) * 5e-324,
    "huge": lambda rng: rng.choice([1.7976931348623157e308, -1.7976931348623157e308], N),
    "odd": lambda rng: rng.choice([math.nan, math.inf, -math.inf, 1.0], N),
    "one nan": lambda rng: np.where(np.arange(N) == 50, math.nan, rng.normal(size=N)),
    "edges": lambda rng: rng.choice(EDGES, N),
    "cancel": lambda rng: np.concatenate([x := rng.normal(size=N // 2), -x]) * 2.0 ** rng.integers(0, 40),
}


@pytest.mark.parametrize("delay", [0.0, 3.0, 60.0])
@pytest.mark.parametrize("values", VALUES)
def test_values_of_every_sort_give_the_bits_of_plain_python(values, delay):
    seed = 12
    print("seed", seed)
    rng = np.random.default_rng(seed)
    rows, asked = told(rng, VALUES[values](rng), delay), questions(rng)
    declared = view(late=delay > 0)
    wanted = by_python(declared, asked, rows)
    assert_same(by_blocks(declared, asked, rows), wanted)
    assert wanted["w__short_x_mean"].null_count() > 5
    assert wanted["w__long_x_count"].max() > 8


def test_kinds_that_are_never_plain_beside_those_that_are():
    rng = np.random.default_rng(2)
    declared = view((*PLAIN, "stddev", "nunique"))
    rows, asked = told(rng, rng.normal(size=N), 3.0), questions(rng)
    assert_same(by_blocks(declared, asked, rows), by_python(declared, asked, rows))


def test_one_entity_with_nearly_all_rows_and_blocks_of_blocks():
    rng = np.random.default_rng(3)
    n = 9_000
    rows = told(rng, rng.normal(size=n), entities=3).with_columns(
        pl.when(pl.int_range(pl.len()) % 50 > 0).then(pl.lit("1")).otherwise("entity").alias("entity")
    )
    declared, asked = view(late=False), questions(rng, entities=4)
    wanted = by_python(declared, asked, rows)
    assert wanted["w__long_x_count"].max() > 2 * 64 * 4
    assert_same(by_blocks(declared, asked, rows, 1_000), wanted)


@pytest.mark.parametrize("outlier", [0, 1, 80])
def test_a_row_known_very_late_among_hundreds(outlier):
    rng = np.random.default_rng(4)
    n = 2_000
    event = np.sort(rng.random(n) * 60)
    delay = np.where(np.arange(n) == 900, outlier, 0.0)
    rows = pl.DataFrame(
        {
            "entity": ["a"] * n,
            "event": [hour(h) for h in event],
            "known": [hour(h) for h in event + delay],
            "x": rng.normal(size=n),
            "n": np.ones(n, np.int64),
        }
    )
    asked = asking([("a", hour(h)) for h in (20, event[900] + 0.1, 28.5, 55, 59, 200)])
    wanted = by_python(view(), asked, rows)
    assert wanted["w__long_n_count"].max() > 3 * 256
    assert_same(by_blocks(view(), asked, rows), wanted)


def test_sums_of_large_integers_are_exact_or_refused():
    rows = pl.DataFrame(
        {
            "entity": ["a", "a", "b", "b"],
            "event": [hour(0)] * 4,
            "known": [hour(0)] * 4,
            "x": [0.0] * 4,
            "n": [2**62, -(2**62) + 1, 2**63 - 1, -(2**63)],
        }
    )
    declared, asked = view(), asking([("a", hour(1)), ("b", hour(1))])
    found = by_blocks(declared, asked, rows)
    assert_same(found, by_python(declared, asked, rows))
    assert found["w__long_n_sum"].to_list() == [1, -1]
    with pytest.raises(UserError, match="64 bits hold less"):
        by_blocks(declared, asked, rows.with_columns(n=pl.lit(2**62)))


def test_rows_without_a_time_are_never_seen_and_no_rows_give_empty_windows():
    rows = told(np.random.default_rng(5), np.ones(50)).with_columns(
        pl.when(pl.int_range(50) < 25).then("event").alias("event")
    )
    declared, asked = view(), questions(np.random.default_rng(6))
    assert_same(by_blocks(declared, asked, rows), by_python(declared, asked, rows))
    assert_same(by_blocks(declared, asked, rows.clear()), by_python(declared, asked, rows.clear()))
    assert_same(by_blocks(declared, asked.clear(), rows), by_python(declared, asked.clear(), rows))


def test_a_join_gives_the_same_by_many_rows_as_by_few():
    rng = np.random.default_rng(7)
    rows, asked = told(rng, rng.normal(size=N), 2.0), questions(rng)
    skew = window("30h").agg(pl.col("x").skew())
    for declared in (view(), view(shapes={"one": window("3h")}), mixed(skew)):
        assert_same(join(asked, "at", declared, rows, few=0), join(asked, "at", declared, rows))


def mixed(expression):
    return project().feature_view(
        "w",
        source=view().source,
        entity="entity",
        features={"skew": expression, "sum": window("30h").sum("x")},
    )

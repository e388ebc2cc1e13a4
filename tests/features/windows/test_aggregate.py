"""Windows give the oracle's bits by the kernels and in plain Python, for all kinds, shapes and types."""

import itertools
import math
from datetime import datetime, timedelta

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from rayplat.core.errors import UserError
from rayplat.core.project.source import Kafka
from rayplat.core.project.window import KINDS, Window, tumbling, window
from rayplat.features.instants import asked_at
from rayplat.features.plan import plan
from rayplat.features.questions import ask, number_entities
from rayplat.features.timeline import timeline
from rayplat.features.windows import large
from rayplat.features.windows.aggregate import aggregate
from rayplat.features.windows.blocks import Rows
from tests.features import oracle
from tests.features.aggregates.nasty import FLOATS, INTEGERS, TEXTS, same
from tests.features.worlds import TIME, asking, hour, project

VALUES = {"x": "float64", "n": "int64", "s": "string", "b": "bool", "t": "timestamp"}
SCHEMA = {
    "entity": pl.String,
    "event": TIME,
    "known": TIME,
    "x": pl.Float64,
    "n": pl.Int64,
    "s": pl.String,
    "b": pl.Boolean,
    "t": TIME,
    "_offset": pl.Int64,
}
SHAPES = {
    "slide_2": window("2h"),
    "slide_30": window("30h"),
    "hop": window("5h", every="2h"),
    "tumble": tumbling("1d"),
    "odd": window("7h", where=pl.col("n") % 2 == 1),
    "late_day": window("30h", every="30h", where=pl.col("x") > 0),
}
UNORDERED = {"sum", "mean", "stddev", "quantile"}
PYTHON, KERNELS = 10**9, 0


def features(columns, shapes=SHAPES):
    made = {}
    for (shape, w), column, kind in itertools.product(shapes.items(), columns, KINDS):
        if kind in UNORDERED and column in ("s", "t"):
            continue
        made[f"{shape}_{column}_{kind}"] = (
            w.quantile(column, 0.3) if kind == "quantile" else getattr(w, kind)(column)
        )
    return made


def view(columns="xnsbt", shapes=SHAPES):
    types = {"entity": "string", "event": "timestamp", "known": "timestamp", **VALUES}
    source = project().table(
        "raw.nasty",
        columns=types,
        key=("entity", "event"),
        event_time="event",
        known_at="known",
        source=Kafka("n"),
    )
    return project().feature_view("w", source=source, entity="entity", features=features(columns, shapes))


def answers(asked, rows, small, columns="xnsbt", shapes=SHAPES):
    declared = view(columns, shapes)
    line = timeline(rows, declared.source, number_entities(rows, ("entity",)))
    questions = ask(rows, asked, ("entity",), asked_at(asked, "at"))
    found, newest = aggregate(plan(declared), line, questions, small)
    return found, [line.frame.get_column("_offset")[i] if i >= 0 else None for i in newest.tolist()]


def visible(rows, entity, at: datetime, w: Window):
    """The rows of a window, in their order, by the words of the documentation."""
    end, begin = at + timedelta(microseconds=1), at - w.length + timedelta(microseconds=1)
    if w.every is not None:
        epoch = hour(0) - timedelta(seconds=hour(0).timestamp())
        end = epoch + (at - epoch) // w.every * w.every
        begin = end - w.length
    kept = [r for r in rows if r["entity"] == entity and begin <= r["event"] < end and r["known"] <= at]
    return sorted(kept, key=lambda r: (r["event"], r["known"], r["_offset"]))


def passes(shape, row):
    if shape == "odd":
        return row["n"] is not None and row["n"] % 2 == 1
    return shape != "late_day" or (row["x"] is not None and (row["x"] > 0 or math.isnan(row["x"])))


def expected(rows, entity, at, name):
    if entity is None:
        return None
    shape, column, kind = name.removeprefix("w__").rsplit("_", 2)
    found = visible(rows, entity, at, SHAPES[shape])
    values = [r[column] for r in found if passes(shape, r) and r[column] is not None]
    if column == "x":
        values = [value + 0.0 for value in values]
        if kind == "sum":
            return oracle.KINDS["sum"]([0.0, *values])
    if column == "b" and kind in UNORDERED:
        values = [int(value) for value in values]
    if kind == "quantile":
        return oracle.quantile([float(v) for v in values], 0.3)
    return oracle.KINDS[kind](values)


@st.composite
def worlds(draw: st.DrawFn):
    rows = []
    for i in range(draw(st.integers(0, 12))):
        event = draw(st.integers(0, 60))
        known = event + draw(st.one_of(st.just(0), st.integers(-5, 40)))
        some = [draw(st.one_of(st.none(), of)) for of in (FLOATS, st.integers(-9, 9), TEXTS, st.booleans())]
        time = draw(st.one_of(st.none(), st.integers(0, 99).map(hour)))
        rows.append((draw(st.sampled_from(["a", "b", None])), hour(event), hour(known), *some, time, i))
    return pl.DataFrame(draw(st.permutations(rows)), schema=SCHEMA, orient="row")


QUESTIONS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "never", None]), st.integers(-1, 105).map(hour)), max_size=5
)


@settings(max_examples=40, deadline=None)
@given(worlds(), QUESTIONS, st.sampled_from([PYTHON, KERNELS]), st.sampled_from(["x", "ns", "xbt"]))
def test_all_kinds_shapes_and_types_are_the_oracle_to_the_bit(rows, questions, small, columns):
    found, newest = answers(asking(questions), rows, small, columns)
    told = rows.to_dicts()
    for (entity, at), row, last in zip(questions, found.to_dicts(), newest, strict=True):
        for name, value in row.items():
            assert same(value, expected(told, entity, at, name)), (name, entity, at)
        held = visible(told, entity, at, SHAPES["slide_30"])
        assert last == (held[-1]["_offset"] if held and entity is not None else None)


@settings(max_examples=40, deadline=None)
@given(st.lists(INTEGERS, min_size=1, max_size=9))
def test_integers_of_all_sizes_are_exact(values):
    rows = pl.DataFrame(
        [("a", hour(0), hour(0), None, value, None, None, None, i) for i, value in enumerate(values)],
        schema=SCHEMA,
        orient="row",
    )
    shapes = {"slide_2": SHAPES["slide_2"]}
    asked = asking([("a", hour(1))])
    if not -(2**63) <= sum(values) < 2**63:
        for small in (PYTHON, KERNELS):
            with pytest.raises(UserError, match=str(sum(values))):
                answers(asked, rows, small, "n", shapes)
        return
    for small in (PYTHON, KERNELS):
        (found,) = answers(asked, rows, small, "n", shapes)[0].to_dicts()
        assert found["w__slide_2_n_sum"] == sum(values)
        for kind in ("mean", "stddev", "min", "max"):
            assert same(found[f"w__slide_2_n_{kind}"], oracle.KINDS[kind](values))


@pytest.mark.parametrize("late", ["never", "sometimes", "an outlier"])
def test_dense_entities_give_the_same_bits_by_blocks_as_value_by_value(late):
    seed = 20
    print("seed", seed)
    rng = np.random.default_rng(seed)
    n = 9_000
    event = np.sort(rng.random(n) * 400)
    delay = {"never": np.zeros(n), "sometimes": rng.exponential(2, n), "an outlier": np.zeros(n)}[late]
    if late == "an outlier":
        delay[[1_000, 5_000]] = 390
    x = rng.normal(size=n) * 10.0 ** rng.integers(-12, 12, n)
    x[rng.random(n) < 0.01] = np.nan
    rows = pl.DataFrame(
        {
            "entity": np.where(rng.random(n) < 0.9, "a", "b"),
            "event": [hour(h) for h in event],
            "known": [hour(h) for h in event + delay],
            "x": pl.Series(x),
            "n": rng.integers(-5, 2**40, n),
            "s": rng.integers(0, 3_000, n).astype(str),
            "b": rng.random(n) < 0.5,
            "t": [hour(h) for h in rng.random(n)],
            "_offset": np.arange(n),
        },
        schema=SCHEMA,
    )
    asked = asking([("ab"[i % 2], hour(h)) for i, h in enumerate(rng.random(12) * 420)])
    shapes = {"slide_2": window("2h"), "slide_30": window("30h"), "all": window("300h"), "hop": SHAPES["hop"]}
    python, kernels = (answers(asked, rows, small, "xns", shapes) for small in (PYTHON, KERNELS))
    assert python[1] == kernels[1]
    assert python[0].get_column("w__all_s_nunique").max() > 1024
    for name in python[0].columns:
        one, two = python[0].get_column(name).to_list(), kernels[0].get_column(name).to_list()
        assert all(map(same, one, two)), name


def test_many_questions_in_parts_are_the_questions_one_by_one():
    rng = np.random.default_rng(4)
    n = 1_000
    event = [hour(h) for h in rng.integers(0, 60, n).tolist()]
    rows = (
        pl.DataFrame(
            {
                "entity": rng.integers(0, 40, n).astype(str),
                "event": event,
                "known": event,
                "x": rng.normal(size=n),
            }
        )
        .with_columns(
            pl.lit(3).alias("n"),
            pl.lit("s").alias("s"),
            b=pl.lit(True),
            t=pl.col("event"),
            _offset=pl.int_range(n),
        )
        .cast(SCHEMA)
    )
    asked = asking([(str(rng.integers(0, 45)), hour(h)) for h in rng.integers(0, 70, 500).tolist()])
    declared = view("xn")
    line = timeline(rows, declared.source, number_entities(rows, ("entity",)))
    questions = ask(rows, asked, ("entity",), asked_at(asked, "at"))
    whole, newest = aggregate(plan(declared), line, questions, PYTHON)
    blocks = Rows(line.code.astype(np.int32), line.event, line.known)
    parts, newest_of_parts = large.aggregate(plan(declared).windows, blocks, line.frame, questions, size=50)
    assert pl.DataFrame(parts).select(whole.columns).equals(whole)
    assert newest_of_parts.tolist() == newest.tolist()


@pytest.mark.parametrize("small", [PYTHON, KERNELS])
def test_rows_are_counted_by_a_literal_and_filtered_without_values(small):
    rows = pl.DataFrame(
        [("a", hour(i), hour(i), None, i, None, None, None, i) for i in range(6)], schema=SCHEMA, orient="row"
    )
    source = view().source
    w = window("10h")
    declared = project().feature_view(
        "w",
        source=source,
        entity="entity",
        features={
            "rows": w.count(pl.lit(1)),
            "even": w.filter(pl.col("n") % 2 == 0).sum("n"),
            "none": w.filter(pl.col("n") > 99).first("n"),
            "skew": w.agg(pl.col("n").skew()),
            "even_rows": w.filter(pl.col("n") % 2 == 0).agg(pl.len()),
            "half": w.mean(pl.col("n") / 2),
        },
    )
    line = timeline(rows, source, number_entities(rows, ("entity",)))
    asked = asking([("a", hour(4)), ("never", hour(4)), (None, hour(4))])
    found, newest = aggregate(
        plan(declared), line, ask(rows, asked, ("entity",), asked_at(asked, "at")), small
    )
    assert found.rows() == [
        (5, 6, None, 0.0, 3, 1.0),
        (0, 0, None, None, 0, None),
        (None, None, None, None, None, None),
    ]
    assert newest.tolist() == [4, -1, -1]


@pytest.mark.parametrize("small", [PYTHON, KERNELS])
def test_a_view_that_reads_no_column_counts_rows(small):
    rows = pl.DataFrame({"entity": ["a", "a"], "event": [hour(0), hour(1)], "known": [hour(0), hour(3)]})
    declared = project().feature_view(
        "w", source=view().source, entity="entity", features={"rows": window("10h").count(pl.lit(1))}
    )
    line = timeline(rows, declared.source, number_entities(rows, ("entity",)))
    asked = asking([("a", hour(2)), ("a", hour(3))])
    questions = ask(rows, asked, ("entity",), asked_at(asked, "at"))
    assert aggregate(plan(declared), line, questions, small)[0].rows() == [(1,), (2,)]

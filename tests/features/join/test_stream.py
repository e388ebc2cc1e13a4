"""The streamed join gives what the small one gives, for all kinds of values, keys, ttls and parts."""

from datetime import UTC, date, datetime, timedelta

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from rayplat.core.errors import UserError
from rayplat.features.instants import asked_at
from rayplat.features.join.parts import FramePart
from rayplat.features.join.stream import Asking, Source, features
from rayplat.features.lake import pin
from rayplat.features.offline import get_historical_features
from rayplat.features.plan import plan
from rayplat.features.point_in_time import join
from rayplat.features.questions import keys_as
from tests.features.fakes import FakeLake
from tests.features.join.test_winners import QUESTIONS, TTLS, worlds
from tests.features.worlds import TIME, asking, events, frame, hour, latest_view, project, source_table

US = timedelta(microseconds=1)


def streamed(rows, view, source, cut=3):
    parts = [FramePart(source[i : i + cut]) for i in range(0, source.height, cut)]
    schema = source.to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    ask = Asking(keys_as(source.select(view.entity).schema, rows, view.asks), asked_at(rows, "at"))
    return features([plan(view)], Source(view.source, schema, parts), ask)[0]


@settings(max_examples=100, deadline=None)
@given(worlds(), QUESTIONS, TTLS, st.integers(1, 30))
def test_it_gives_what_the_small_join_gives(world, questions, ttl, cut):
    view, rows, source = latest_view(ttl), asking(questions), frame(world)
    source = source.with_columns(
        x=pl.int_range(pl.len()).cast(pl.Float64).replace({1.0: None, 2.0: float("nan")})
    )
    assert streamed(rows, view, source, cut).equals(join(rows, "at", view, source).select(view.names))


@settings(max_examples=150, deadline=None)
@given(worlds(), QUESTIONS, st.integers(1, 30), st.sampled_from(["as drawn", "by time", "late at the seams"]))
def test_without_offsets_ttl_or_late_rows_the_last_row_answers(world, questions, cut, order):
    """Times are whole hours, so that equal ones stand on both sides of many seams."""
    view, rows = latest_view(table=source_table(known_at=None)), asking(questions)
    source = frame(world).drop("known", "_offset", "_partition")
    source = source.with_columns(x=pl.int_range(pl.len()).cast(pl.Float64))
    if order != "as drawn":
        source = source.sort("event", maintain_order=True)
    if order == "late at the seams" and source.height > cut + 1:
        # The last row of the first part is moved behind the first one of the second.
        place = list(range(source.height))
        place[cut - 1], place[cut] = place[cut], place[cut - 1]
        source = source[place]
    assert streamed(rows, view, source, cut).equals(join(rows, "at", view, source).select(view.names))


KINDS = {
    "int32": (pl.Int32, [3, None, -7]),
    "int64": (pl.Int64, [3, None, 2**60]),
    "string": (pl.String, ["a", None, "ä long one"]),
    "bool": (pl.Boolean, [True, None, False]),
    "date": (pl.Date, [date(2020, 1, 1), None, date(1960, 5, 1)]),
    "timestamp": (TIME, [datetime(2020, 1, 1, tzinfo=UTC), None, datetime(1960, 1, 1, tzinfo=UTC)]),
    "float32": (pl.Float32, [1.5, None, float("inf")]),
    "binary": (pl.Binary, [b"x", None, b""]),
}


def typed(kind):
    columns = {"k": kind, "k2": "string", "t": "timestamp", "v": kind}
    table = project().table("raw.typed", columns=columns, key=("k", "k2", "t"), event_time="t")
    return table, project().feature_view("v", source=table, entity=("k", "k2"), features={"v": pl.col("v")})


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"float32"}))
def test_keys_and_values_of_every_type(kind):
    dtype, values = KINDS[kind]
    _, view = typed(kind)
    rng = np.random.default_rng(8)
    pick = [values[i] for i in rng.integers(0, 3, 60)]
    source = pl.DataFrame(
        {
            "k": pick,
            "k2": rng.choice(["p", "q"], 60),
            "t": [hour(h) for h in rng.integers(0, 40, 60).tolist()],
            "v": pick[::-1],
        },
        schema_overrides={"k": dtype, "v": dtype, "t": TIME},
    )
    rows = source.select("k", "k2", at=pl.col("t") + pl.duration(hours=5)).sample(30, seed=3)
    answered = streamed(rows, view, source, 7)
    assert answered.equals(join(rows, "at", view, source).select(view.names))
    assert answered.schema["v__v"] == dtype


def test_the_cut_off_and_the_edge_of_the_ttl_to_the_microsecond():
    source = frame(events(("a", 1, 1, 10.0), ("a", 2, 2, 20.0)))
    view = latest_view(timedelta(hours=3))
    rows = asking(
        [("a", hour(2)), ("a", hour(2) - US), ("a", hour(5)), ("a", hour(5) + US), ("a", hour(1) - US)]
    )
    assert streamed(rows, view, source).get_column("last__x").to_list() == [20, 10, 20, None, None]


def test_a_table_without_times_answers_with_its_last_row_always():
    table = project().table("raw.planes", columns={"tail": "string", "year": "int64"}, key="tail")
    view = project().feature_view("plane", source=table, entity="tail", features={"year": pl.col("year")})
    source = pl.DataFrame({"tail": ["n1", "n1", None, "n2"], "year": [1990, 1999, 5, 2004]})
    rows = pl.DataFrame(
        {"tail": ["n2", "n1", "n3"], "at": [hour(0), hour(-1e5), hour(0)]}, schema_overrides={"at": TIME}
    )
    assert streamed(rows, view, source, 1).get_column("plane__year").to_list() == [2004, 1999, None]


def test_duplicates_go_to_the_later_offset_wherever_they_stand():
    source = frame(events(("a", 1, 1, 1.0), ("a", 1, 1, 2.0), ("a", 1, 1, 3.0)))
    rows = asking([("a", hour(1))])
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        assert streamed(rows, latest_view(), source[order], 1).get_column("last__x").to_list() == [3]
    without = source.drop("_offset", "_partition")
    assert streamed(rows, latest_view(), without[[2, 1, 0]], 1).get_column("last__x").to_list() == [1]


def test_a_column_that_the_source_lacks_is_told():
    source = frame(events(("a", 1, 1, 1.0)))
    with pytest.raises(UserError, match=r"lack \['x'\]"):
        streamed(asking([("a", hour(2))]), latest_view(), source.drop("x"))


def test_views_of_one_source_share_the_reading_and_keep_their_ttls():
    lake = FakeLake()
    rng = np.random.default_rng(9)
    world = events(*(("ab"[i % 2], int(h), int(h), float(i)) for i, h in enumerate(rng.integers(0, 50, 200))))
    lake.tell("raw.events", frame(world))
    rows = asking([("ab"[i % 2], hour(int(h))) for i, h in enumerate(rng.integers(0, 90, 50))])
    views = [latest_view(ttl).with_name(name) for name, ttl in (("p", None), ("q", timedelta(hours=2)))]
    pins = pin(lake, ["raw.events"])
    small = get_historical_features(rows, "at", views, lake, pins)
    lake.table("raw.events").reads.clear()
    assert get_historical_features(rows, "at", views, lake, pins, few=0).equals(small)
    assert small.get_column("q__x").null_count() > small.get_column("p__x").null_count()
    reads = lake.table("raw.events").reads
    assert all(read["snapshot_id"] == pins["raw.events"] for read in reads)


def test_sources_that_are_asked_alike_share_the_sorted_questions_and_others_do_not():
    lake, rng = FakeLake(), np.random.default_rng(10)
    views = []
    for name in ("raw.first", "raw.second", "raw.dated"):
        world = events(
            *(("ab"[i % 2], int(h), int(h), float(i)) for i, h in enumerate(rng.integers(0, 50, 90)))
        )
        lake.tell(name, frame(world))
        views.append(latest_view(table=source_table(name)).with_name(name.split(".")[1]))
    views[2] = views[2].with_join_key_map({"entity": "other"})
    rows = asking([("ab"[i % 2], hour(int(h))) for i, h in enumerate(rng.integers(0, 90, 50))])
    rows = rows.with_columns(other=pl.col("entity").reverse())
    pins = pin(lake, ["raw.first", "raw.second", "raw.dated"])
    small = get_historical_features(rows, "at", views, lake, pins)
    assert get_historical_features(rows, "at", views, lake, pins, few=0).equals(small)
    assert len({tuple(small.get_column(f"{view.name}__x")) for view in views}) == 3


def entities_of(shape, rng, count):
    """Numbers of entities of `count` rows and of as many questions."""
    if shape == "one":
        return np.zeros(count, int), np.zeros(count, int)
    if shape == "skewed":
        return np.minimum(rng.zipf(1.3, count), 500), np.minimum(rng.zipf(1.3, count), 500)
    if shape == "never seen":
        return rng.integers(0, 50, count), rng.integers(50, 90, count)
    return rng.integers(0, 50, count), rng.integers(0, 60, count)


@pytest.mark.parametrize("shape", ["one", "skewed", "never seen", "even"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("kind", [pl.String, pl.Int64])
def test_many_rows_of_few_and_of_many_entities(shape, late, in_order, kind):
    rng, count = np.random.default_rng(14), 3000
    entities, who = entities_of(shape, rng, count)
    event = rng.integers(0, 400, count)
    known = event + np.where(rng.random(count) < 0.2, rng.integers(0, 30, count), 0) if late else event
    world = events(*(("?", int(e), int(k), float(e)) for e, k in zip(event, known, strict=True)))
    source = frame(world).with_columns(
        entity=pl.Series(entities).cast(kind), x=pl.col("x").replace({3.0: None})
    )
    source = source.sort(pl.max_horizontal("event", "known"), maintain_order=True) if in_order else source
    rows = asking([("?", hour(int(h))) for h in rng.integers(-5, 450, count)])
    rows = rows.with_columns(entity=pl.Series(who).cast(kind))
    rows = rows.sort("at") if in_order else rows
    columns = {
        "entity": "string" if kind is pl.String else "int64",
        "event": "timestamp",
        "known": "timestamp",
    }
    columns |= {"x": "float64"}
    table = project().table(
        "raw.shapes", columns=columns, key=("entity", "event"), event_time="event", known_at="known"
    )
    for ttl in (None, timedelta(hours=20)):
        view = project().feature_view(
            "last", source=table, entity="entity", ttl=ttl, features={"x": pl.col("x")}
        )
        small = join(rows, "at", view, source).select(view.names)
        assert streamed(rows, view, source, 700).equals(small)
        answered = small.height - small.get_column("last__x").null_count()
        assert answered == 0 if shape == "never seen" else answered > 100


@pytest.mark.parametrize(("rows", "asks"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_read_or_nobody_asks(rows, asks):
    source, view = frame(events(*(("a", 1, 1, 1.0),) * 3))[:rows], latest_view(timedelta(hours=5))
    answered = streamed(asking([("a", hour(2))] * 3)[:asks], view, source)
    assert answered.equals(join(asking([("a", hour(2))] * 3)[:asks], "at", view, source).select(view.names))
    assert answered.height == asks


def test_defaults_stand_for_nulls_and_asking_columns_may_have_other_names():
    view = project().feature_view(
        "d", source=source_table(), entity="entity", features={"x": pl.col("x")}, defaults={"x": -1.0}
    )
    view = view.with_join_key_map({"entity": "who"})
    source = frame(events(("a", 1, 1, None), ("b", 1, 1, 5.0)))
    rows = asking([("a", hour(2)), ("b", hour(2)), ("z", hour(2))]).rename({"entity": "who"})
    small = join(rows, "at", view, source)
    assert join(rows, "at", view, source, few=0).equals(small)
    assert small.get_column("d__x").to_list() == [-1, 5, -1]

"""The named traps of a point-in-time join, each as one small world."""

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from rayplat.core.errors import UserError
from rayplat.core.project.window import window
from rayplat.features.plan import plan
from rayplat.features.point_in_time import join
from rayplat.features.questions import ask, number_entities
from rayplat.features.timeline import timeline
from rayplat.features.windows.aggregate import aggregate
from tests.features.worlds import (
    SOURCE_SCHEMA,
    TIME,
    asking,
    events,
    frame,
    hour,
    latest_view,
    project,
    source_table,
    window_view,
)

US = timedelta(microseconds=1)


def last_x(rows, source, ttl=None):
    return join(rows, "at", latest_view(ttl), source).get_column("last__x").to_list()


def test_a_row_at_exactly_the_cut_off_is_known_and_one_a_microsecond_later_is_not():
    source = frame(events(("a", 1, 1, 10.0), ("a", 2, 2, 20.0)))
    assert last_x(asking([("a", hour(2)), ("a", hour(2) - US), ("a", hour(1) - US)]), source) == [
        20,
        10,
        None,
    ]


def test_a_row_is_seen_from_when_it_was_known_not_from_when_it_happened():
    source = frame(events(("a", 1, 1, 10.0), ("a", 2, 5, 20.0)))
    assert last_x(asking([("a", hour(4)), ("a", hour(5))]), source) == [10, 20]


def test_a_late_row_does_not_replace_a_newer_one_and_is_no_gap():
    # The row of hour 2 becomes known after the row of hour 3: who asks at 6 must still see hour 3.
    source = frame(events(("a", 3, 3, 30.0), ("a", 2, 5, 20.0)))
    assert last_x(asking([("a", hour(4)), ("a", hour(6))]), source) == [30, 30]


def test_a_row_about_the_future_is_not_seen_before_its_event_time():
    source = frame(events(("a", 1, 1, 10.0), ("a", 8, 2, 80.0)))
    assert last_x(asking([("a", hour(7)), ("a", hour(8))]), source) == [10, 80]


def test_ties_go_to_the_latest_known_then_to_the_last_offset():
    source = frame(events(("a", 1, 3, 1.0), ("a", 1, 2, 2.0), ("b", 1, 1, 3.0), ("b", 1, 1, 4.0)))
    assert last_x(asking([("a", hour(5)), ("b", hour(5))]), source) == [1, 4]
    assert last_x(asking([("a", hour(5)), ("b", hour(5))]), source.reverse()) == [1, 4]


def test_a_row_exactly_as_old_as_the_ttl_answers_and_an_older_one_does_not():
    source = frame(events(("a", 1, 1, 10.0)))
    rows = asking([("a", hour(4)), ("a", hour(4) + US)])
    assert last_x(rows, source, ttl=timedelta(hours=3)) == [10, None]


def test_a_null_value_is_not_a_missing_row():
    joined = join(
        asking([("a", hour(2)), ("z", hour(2))]), "at", latest_view(), frame(events(("a", 1, 1, None)))
    )
    assert joined.get_column("last__missing").to_list() == [True, None]


def test_an_entity_never_seen_and_an_entity_that_is_null():
    source = frame(events(("a", 1, 1, 1.0), (None, 1, 1, 9.0)))
    rows = asking([("z", hour(2)), (None, hour(2)), ("a", hour(2))])
    assert last_x(rows, source) == [None, None, 1]
    joined = join(rows, "at", window_view(["5h"]), source)
    assert joined.get_column("recent__count_5h").to_list() == [0, None, 1]
    assert joined.get_column("recent__mean_5h").to_list() == [None, None, 1]


def test_a_window_is_open_at_its_beginning_and_closed_at_its_end():
    source = frame(events(("a", 0, 0, 1.0), ("a", 2, 2, 2.0), ("a", 5, 5, 4.0)))
    joined = join(asking([("a", hour(5)), ("a", hour(5) - US)]), "at", window_view(["5h"]), source)
    assert joined.get_column("recent__sum_5h").to_list() == [6, 3]


def test_a_window_does_not_count_a_row_before_it_is_known():
    source = frame(events(("a", 1, 1, 1.0), ("a", 2, 4, 2.0)))
    joined = join(asking([("a", hour(3)), ("a", hour(4))]), "at", window_view(["5h"]), source)
    assert joined.get_column("recent__sum_5h").to_list() == [1, 3]


def test_order_and_number_of_rows_are_kept():
    source = frame(events(("a", 1, 1, 1.0), ("b", 1, 1, 2.0)))
    rows = asking([("b", hour(3)), ("a", hour(3)), ("b", hour(3)), ("a", hour(0))])
    for view in (latest_view(), window_view()):
        joined = join(rows, "at", view, source)
        assert joined.select(rows.columns).equals(rows)
        assert joined.columns == [*rows.columns, *view.names]


def test_empty_source_and_no_questions():
    empty = pl.DataFrame(schema=SOURCE_SCHEMA)
    assert last_x(asking([("a", hour(1))]), empty) == [None]
    joined = join(asking([("a", hour(1))]), "at", window_view(["5h"]), empty)
    assert joined.get_column("recent__sum_5h").to_list() == [0]
    for view in (latest_view(), window_view()):
        assert join(asking([]), "at", view, frame(events(("a", 1, 1, 1.0)))).height == 0


def test_daylight_saving_an_hour_that_comes_twice_is_two_hours():
    local = pl.Series(["2013-11-03 05:30", "2013-11-03 06:30"]).str.to_datetime(time_unit="us")
    new_york = local.dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    assert new_york.dt.hour().to_list() == [1, 1]
    source = frame(events(("a", 0, 0, 1.0))).with_columns(
        event=local.dt.replace_time_zone("UTC")[0], known=local.dt.replace_time_zone("UTC")[0]
    )
    rows = pl.DataFrame({"entity": ["a", "a"], "at": new_york})
    assert last_x(rows, source, ttl=timedelta(minutes=30)) == [1, None]


def test_times_without_a_zone_or_too_fine_or_missing_are_refused():
    source = frame(events(("a", 1, 1, 1.0)))
    rows = asking([("a", hour(2))])
    naive = rows.with_columns(pl.col("at").dt.replace_time_zone(None))
    with pytest.raises(UserError, match="without a time zone"):
        join(naive, "at", latest_view(), source)
    with pytest.raises(UserError, match="nanoseconds"):
        join(rows.with_columns(pl.col("at").dt.cast_time_unit("ns")), "at", latest_view(), source)
    with pytest.raises(UserError, match="have no 'at'"):
        join(asking([("a", None)]), "at", latest_view(), source)
    with pytest.raises(UserError, match="no column 'when'"):
        join(rows, "when", latest_view(), source)
    with pytest.raises(UserError, match=r"'event' of the rows of 'raw\.events' is String"):
        join(rows, "at", latest_view(), source.with_columns(pl.col("event").cast(pl.String)))


def test_a_key_of_another_kind_is_refused_and_a_narrower_integer_is_not():
    table = project().table(
        "raw.ints", columns={"k": "int64", "t": "timestamp", "x": "float64"}, key="k", event_time="t"
    )
    view = project().feature_view("v", source=table, entity="k", features={"x": pl.col("x")})
    source = pl.DataFrame({"k": [7], "t": [hour(1)], "x": [1.0]}, schema_overrides={"t": TIME})
    rows = pl.DataFrame({"k": [7], "at": [hour(2)]}, schema={"k": pl.Int32, "at": TIME})
    assert join(rows, "at", view, source).get_column("v__x").to_list() == [1]
    with pytest.raises(UserError, match="'k' is String in the asking rows and Int64"):
        join(rows.cast({"k": pl.String}), "at", view, source)


def test_a_table_without_times_is_known_always():
    table = project().table("raw.planes", columns={"tail": "string", "year": "int64"}, key="tail")
    view = project().feature_view("plane", source=table, entity="tail", features={"year": pl.col("year")})
    source = pl.DataFrame({"tail": ["n1", "n1", "n2"], "year": [1990, 1999, 2004]})
    rows = pl.DataFrame({"tail": ["n2", "n1"], "at": [hour(0), hour(-1e5)]}, schema_overrides={"at": TIME})
    assert join(rows, "at", view, source).get_column("plane__year").to_list() == [2004, 1999]


def test_columns_that_are_missing_or_taken_are_told():
    source = frame(events(("a", 1, 1, 1.0)))
    with pytest.raises(UserError, match="no entity column 'entity'"):
        join(asking([("a", hour(2))]).rename({"entity": "e"}), "at", latest_view(), source)
    with pytest.raises(UserError, match=r"lack \['x'\]"):
        join(asking([("a", hour(2))]), "at", latest_view(), source.drop("x"))
    with pytest.raises(UserError, match="already"):
        join(asking([("a", hour(2))]).with_columns(last__x=1), "at", latest_view(), source)


def test_chunks_of_pairs_change_no_bit():
    rng = np.random.default_rng(5)
    n = 400
    hours = np.sort(rng.integers(0, 60, n))
    source = frame(
        events(
            *(
                (str(rng.integers(0, 3)), int(h), int(h + rng.integers(0, 4)), float(rng.normal()))
                for h in hours
            )
        )
    )
    rows = asking([(str(rng.integers(0, 4)), hour(int(rng.integers(0, 70)))) for _ in range(100)])
    view = window_view()
    code = number_entities(source, view.entity)
    line = timeline(source, view.source, code)
    questions = ask(source, rows, view.entity, rows.get_column("at").to_physical().to_numpy())
    whole, newest = aggregate(plan(view), line, questions)
    for pairs_at_once in (1, 7, 1000):
        parts, newest_of_parts = aggregate(plan(view), line, questions, pairs_at_once)
        assert parts.equals(whole)
        assert (newest_of_parts == newest).all()
    assert math.isfinite(whole.get_column("recent__sum_5h").sum())


def test_several_entity_columns():
    table = project().table(
        "raw.legs",
        columns={"o": "string", "d": "string", "t": "timestamp", "x": "float64"},
        key=("o", "d", "t"),
        event_time="t",
    )
    view = project().feature_view(
        "leg", source=table, entity=("o", "d"), features={"n": window("5h").agg(pl.len())}
    )
    source = pl.DataFrame(
        {"o": ["a", "a", "b", None], "d": ["b", "c", "b", "b"], "t": [hour(1)] * 4, "x": [1.0] * 4},
        schema_overrides={"t": TIME},
    )
    rows = pl.DataFrame(
        {"d": ["b", "b", "b"], "o": ["a", None, "c"], "at": [hour(2)] * 3}, schema_overrides={"at": TIME}
    )
    assert join(rows, "at", view, source).get_column("leg__n").to_list() == [1, None, 0]


def test_known_at_is_the_event_time_where_it_is_not_declared():
    table = source_table(known_at=None)
    source = frame(events(("a", 1, 9, 1.0)))
    joined = join(asking([("a", hour(1))]), "at", latest_view(table=table), source)
    assert joined.get_column("last__x").to_list() == [1]


def test_features_that_read_no_column():
    view = project().feature_view(
        "v", source=source_table(), entity="entity", features={"known": pl.lit(value=True)}
    )
    joined = join(asking([("a", hour(1)), ("b", hour(1))]), "at", view, frame(events(("a", 1, 1, 1.0))))
    assert joined.get_column("v__known").to_list() == [True, None]

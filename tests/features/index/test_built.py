"""The index against the engine: the same rows, whatever is late, tied, null or unseen."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rayplat.core.errors import UserError
from rayplat.core.project.table import Table
from rayplat.core.project.view import FeatureView, python
from rayplat.features.index import kernel
from rayplat.features.index.built import build, indexable
from rayplat.features.point_in_time import join
from tests.features.worlds import TIME, asking, events, frame, hour, latest_view, project, window_view

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
TYPES = {
    "key": "int64",
    "event": "timestamp",
    "known": "timestamp",
    "x": "float64",
    "n": "int32",
    "s": "string",
    "b": "bool",
}


def wide_view(
    ttl: timedelta | None = None, entity: tuple[str, ...] = ("key",), key_type: str = "int64"
) -> FeatureView:
    table = project().table(
        "raw.wide",
        columns=TYPES | {"key": key_type},
        key=("key", "event"),
        event_time="event",
        known_at="known",
    )
    features = {
        "x": pl.col("x"),
        "negated": -pl.col("x").cast(pl.Float32),
        "n": pl.col("n"),
        "small": pl.col("n").cast(pl.UInt8, strict=False),
        "s": pl.col("s"),
        "b": pl.col("b"),
        "missing": pl.col("x").is_null(),
        "when": pl.col("event"),
        "day": pl.col("event").dt.date(),
        "pair": pl.concat_list(pl.col("x"), pl.col("x") * 2),
        "one": pl.lit(1),
    }
    return project().feature_view("wide", source=table, entity=entity, ttl=ttl, features=features)


def world(seed: int, rows: int, keys: list[object], key_type: pl.DataType) -> pl.DataFrame:
    pick = random.Random(seed)
    event = [BEGIN + timedelta(minutes=pick.randrange(50)) for _ in range(rows)]
    known = [e + timedelta(minutes=pick.choice([0, 0, 0, -3, 1, 20])) for e in event]
    return pl.DataFrame(
        {
            "key": [pick.choice([*keys, None]) for _ in range(rows)],
            "event": event,
            "known": known,
            "x": [pick.choice([None, float("nan"), -0.0, 0.0, pick.random()]) for _ in range(rows)],
            "n": [pick.choice([None, pick.randrange(-5, 300)]) for _ in range(rows)],
            "s": [pick.choice([None, "", "a", "ü"]) for _ in range(rows)],
            "b": [pick.choice([None, True, False]) for _ in range(rows)],
            "_offset": [pick.randrange(3) for _ in range(rows)],
            "_partition": [pick.randrange(2) for _ in range(rows)],
        },
        schema={
            "key": key_type,
            "event": TIME,
            "known": TIME,
            "x": pl.Float64,
            "n": pl.Int32,
            "s": pl.String,
            "b": pl.Boolean,
            "_offset": pl.Int64,
            "_partition": pl.Int32,
        },
    )


def questions(seed: int, rows: int, keys: list[object], key_type: pl.DataType) -> pl.DataFrame:
    pick = random.Random(seed + 1)
    at = [BEGIN + timedelta(minutes=pick.randrange(-5, 90)) for _ in range(rows)]
    asked = [pick.choice([*keys, None]) for _ in range(rows)]
    return pl.DataFrame({"key": asked, "at": at}, schema={"key": key_type, "at": TIME})


def same(view: FeatureView, source: pl.DataFrame, rows: pl.DataFrame) -> None:
    wanted = join(rows, "at", view, source).select(view.names)
    assert_frame_equal(build(view, source).answer(rows, "at", view), wanted, check_exact=True)


KEYS = {
    "range": ("int64", pl.Int64, [3, 4, 5, 9], [3, 4, 5, 8, 2, -7, 2**62]),
    "narrow": ("int32", pl.Int32, [-3, 4, 5, 9], [3, -3, 5, 8, 2**30]),
    "hashed": ("int64", pl.Int64, [-(2**62), 0, 17, 2**61], [-(2**62), 1, 17, 2**61, 5]),
    "text": ("string", pl.String, ["a", "", "ü"], ["a", "", "ü", "none"]),
    "date": ("date", pl.Date, [BEGIN.date()], [BEGIN.date(), datetime(2001, 1, 1).date()]),  # noqa: DTZ001
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("ttl", [None, timedelta(minutes=7)])
def test_the_same_rows_as_the_engine(kind: str, ttl: timedelta | None) -> None:
    name, dtype, keys, asked = KEYS[kind]
    view = wide_view(ttl, key_type=name)
    for seed in range(12):
        print("seed", seed)
        source = world(seed, seed * 12, keys, dtype)
        same(view, source, questions(seed, 40, asked, dtype))
        same(view, source.drop("_offset", "_partition"), questions(seed, 40, asked, dtype))


def test_two_columns_name_an_entity() -> None:
    view = wide_view(entity=("key", "s"))
    source = world(5, 200, [1, 2, 3], pl.Int64)
    rows = questions(5, 60, [1, 2, 7], pl.Int64).with_columns(s=pl.Series(["a", None, "ü"] * 20))
    same(view, source, rows)


def test_late_rows_answer_from_when_they_are_known() -> None:
    source = frame(events(("a", 1, 1, 1.0), ("a", 2, 9, 2.0), ("a", 3, 3, 3.0), ("a", 5, 5, 5.0)))
    view = latest_view(timedelta(hours=4))
    rows = asking([("a", hour(h)) for h in (0.9, 1, 2, 3, 4, 5, 8.9, 9, 9.1)])
    same(view, source, rows)
    assert build(view, source).steps.shape[0] == 3  # the late row never wins


def test_a_late_winner_ages_by_its_event_time() -> None:
    source = frame(events(("a", 1, 1, 1.0), ("a", 2, 6, 2.0)))
    rows = asking([("a", hour(h)) for h in (4, 5, 5.01, 6, 6.01, 7)])
    same(latest_view(timedelta(hours=4)), source, rows)


def test_a_table_without_times_answers_at_any_time() -> None:
    table = project().table("raw.plain", columns={"entity": "string", "x": "float64"}, key=("entity",))
    view = latest_view(table=table)
    source = pl.DataFrame({"entity": ["a", "b", "a"], "x": [1.0, 2.0, 3.0]})
    same(view, source, asking([("a", hour(0)), ("b", hour(-(10**7))), ("c", hour(1))]))


def test_times_from_the_first_year_to_the_last() -> None:
    far = [datetime(1, 1, 1, tzinfo=UTC), *(hour(h) for h in (1, 2, 3)), datetime(9999, 12, 31, tzinfo=UTC)]
    source = frame(events(*(("a", 0, 0, float(i)) for i in range(5)))).with_columns(
        event=pl.Series(far, dtype=TIME), known=pl.Series(far, dtype=TIME)
    )
    same(
        latest_view(timedelta(hours=1)),
        source,
        asking([("a", t) for t in [*far, hour(1.5), hour(5), hour(-5)]]),
    )


def test_many_questions_by_threads() -> None:
    view = wide_view()
    source = world(9, 3_000, list(range(50)), pl.Int64)
    same(view, source, questions(9, 200_000, list(range(60)), pl.Int64))


def test_another_name_and_other_asking_columns() -> None:
    view = latest_view()
    source = frame(events(("a", 1, 1, 1.0)))
    rows = asking([("a", hour(2))]).rename({"entity": "origin"})
    other = view.with_name("origin").with_join_key_map({"entity": "origin"})
    assert build(view, source).answer(rows, "at", other).row(0) == (1.0, False, 2.0)


def test_what_cannot_have_an_index() -> None:
    assert "windows" in indexable(window_view())
    opaque = project().feature_view(
        "opaque",
        source=latest_view().source,
        entity="entity",
        features={"x": python(lambda x: x, inputs="x", type="float64")},
    )
    with pytest.raises(UserError, match="Python function"):
        build(opaque, frame([]))


def test_a_missing_or_wrong_asking_column() -> None:
    index = build(latest_view(), frame(events(("a", 1, 1, 1.0))))
    with pytest.raises(UserError, match="no entity column 'entity'"):
        index.answer(asking([("a", hour(1))]).rename({"entity": "other"}), "at", latest_view())
    with pytest.raises(UserError, match="is Int64"):
        index.answer(asking([]).with_columns(entity=pl.lit(1).cast(pl.Int64)), "at", latest_view())


def test_kernels_say_the_same_in_plain_python() -> None:
    pick = np.random.default_rng(3)
    code = pick.integers(-1, 4, 60)
    visible = pick.integers(0, 30, 60)
    order = np.argsort(visible, kind="stable")

    def steps(*, plain: bool) -> tuple[list[int], list[int]]:
        group = kernel.group_rows.py_func if plain else kernel.group_rows
        win = kernel.winner_steps.py_func if plain else kernel.winner_steps
        starts, rows, winner = np.zeros(6, np.int64), np.empty(60, np.int64), np.empty(60, np.int64)
        group(code, order, starts, rows)
        zeros = np.zeros(60, np.int64)
        made = win(rows, starts[:5], visible, visible, visible, zeros, zeros, winner)
        return rows[:made].tolist(), winner[:made].tolist()

    assert steps(plain=True) == steps(plain=False)


def test_a_table_declared_with_no_rows() -> None:
    same(latest_view(), frame([]), asking([("a", hour(1)), (None, hour(1))]))
    assert isinstance(latest_view().source, Table)

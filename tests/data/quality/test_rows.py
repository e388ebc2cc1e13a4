"""Row checks: every reason is named, null does not pass for good, order is kept."""

import polars as pl
import pytest

import rayplat as rp
from rayplat.core.errors import UserError
from rayplat.data.quality.rows import faults, split
from tests.data.worlds import departures


def frame(**columns: list[object]) -> pl.DataFrame:
    rows = len(next(iter(columns.values())))
    defaults: dict[str, list[object]] = {
        "flight_id": ["a"] * rows,
        "scheduled_at": [0] * rows,
        "distance": [5] * rows,
        "delay": [None] * rows,
        "cancelled": [None] * rows,
    }
    schema = {
        "flight_id": pl.String,
        "scheduled_at": pl.Datetime("us", "UTC"),
        "distance": pl.Int64,
        "delay": pl.Float64,
        "cancelled": pl.Boolean,
    }
    return pl.DataFrame({**defaults, **columns}, schema=schema)


def test_split_keeps_the_order_and_names_every_reason() -> None:
    good, bad = split(frame(distance=[1, 9999, 3, None], flight_id=["a", None, "c", "d"]), departures())
    assert good["distance"].to_list() == [1, 3]
    assert bad["reason"].to_list() == [
        "flight_id is missing; distance is not in [1, 6000]",
        "distance is missing",
    ]
    assert good.columns == frame(distance=[1]).columns


def test_good_rows_have_no_reason() -> None:
    assert faults(frame(distance=[1, 2]), departures()).to_list() == [None, None]
    assert faults(frame(distance=[1, 2]).clear(), departures()).to_list() == []


def test_a_check_that_gives_null_has_failed() -> None:
    table = departures(checks=[rp.Check("delay", "delay is not positive", pl.col("delay") > 0)])
    reason = faults(frame(delay=[1.0, None, -1.0]), table)
    assert reason.to_list() == [None, "delay is not positive", "delay is not positive"]


def test_a_vector_has_its_length_and_finite_elements() -> None:
    columns = {"id": "int64", "v": "vector(2)"}
    table = rp.Project("p", owner="a@example.com").table("raw.texts", columns=columns, key="id")
    vectors = [[1, 2], None, [1], [], [1, None], [float("nan"), 1], [None, float("inf"), 1]]
    given = pl.DataFrame({"v": vectors}, schema={"v": pl.List(pl.Float32)}).with_row_index("id")
    assert faults(given, table).to_list() == [
        None,
        None,
        "v has 1 elements, not 2",
        "v has 0 elements, not 2",
        "v has an element that is null",
        "v has an element that is not finite",
        "v has 3 elements, not 2; v has an element that is null; v has an element that is not finite",
    ]


def test_allowed_values() -> None:
    table = departures(checks=[rp.one_of("flight_id", ["a", "b"]), rp.not_null("delay")])
    reason = faults(frame(flight_id=["a", "z"], delay=[1.0, None]), table)
    assert reason.to_list() == [None, "flight_id is not one of 2 allowed values; delay is missing"]


def test_a_check_that_cannot_be_computed_is_the_users_fault() -> None:
    table = departures(checks=[rp.Check("flight_id", "x", pl.col("flight_id").cast(pl.Int64) > 0)])
    with pytest.raises(UserError, match="cannot be computed"):
        faults(frame(flight_id=["text"]), table)

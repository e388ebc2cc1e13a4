"""Requests of every column type: what is taken, and what is told of what is not."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from rayplat.core.errors import UserError
from rayplat.core.project.project import Project
from rayplat.features.requests import request_frame

_NOW = datetime(2024, 1, 1, tzinfo=UTC)
_GOOD = [
    ("string", "a", "a", pl.String()),
    ("int32", 7, 7, pl.Int32()),
    ("int64", 7.0, 7, pl.Int64()),
    ("float32", 1, 1.0, pl.Float32()),
    ("float64", 0.5, 0.5, pl.Float64()),
    ("bool", True, True, pl.Boolean()),
    ("date", "2024-02-29", date(2024, 2, 29), pl.Date()),
    ("date", date(2024, 2, 29), date(2024, 2, 29), pl.Date()),
    ("timestamp", "2024-01-01T01:00:00+01:00", _NOW, pl.Datetime("us", "UTC")),
    ("binary", "AAE=", b"\x00\x01", pl.Binary()),
    ("binary", b"\x00", b"\x00", pl.Binary()),
    ("int32", None, None, pl.Int32()),
]
_BAD = [
    ("int32", 2**31),
    ("int64", 1.5),
    ("int64", True),
    ("float32", "1"),
    ("date", "2024-02-30"),
    ("date", _NOW),
    ("binary", "no base64!"),
    ("bool", 1),
    ("timestamp", 3),
]


def _view(kind: str):
    made = Project("tests", owner="x")
    table = made.table("raw.t", key="k", columns={"k": "string", "c": kind})
    return made.request_view("v", source=table, features={"f": pl.col("c").is_null()})


@pytest.mark.parametrize(("kind", "given", "taken", "dtype"), _GOOD)
def test_a_value_of_its_type_is_taken(kind, given, taken, dtype):
    frame = request_frame([_view(kind)], [{"c": given}], _NOW)
    assert frame.schema == {"c": dtype}
    assert frame["c"].to_list() == [taken]


@pytest.mark.parametrize(("kind", "given"), _BAD)
def test_a_value_of_another_type_is_told_with_its_place(kind, given):
    with pytest.raises(UserError, match=f"request 1 has c = .*, not a {kind}"):
        request_frame([_view(kind)], [{"c": None}, {"c": given}], _NOW)

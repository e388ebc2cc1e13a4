"""Column types: a vector names its length, and what is none is told at the door."""

from typing import Any

import polars as pl
import pytest

import rayplat as rp
from rayplat.core.project.check_table import check_table
from rayplat.core.project.column_types import COLUMN_TYPES, is_column_type, polars_type, vector_length
from rayplat.core.project.faults import Faults
from rayplat.core.project.validate import validate


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        ("vector(1)", 1),
        ("vector(65536)", 65_536),
        ("vector(65537)", None),
        ("vector(0)", None),
        ("vector(03)", None),
        ("vector(x)", None),
        ("vector", None),
        ("vector(-1)", None),
        ("vector(\u0663)", None),
        ("float32", None),
        (7, None),
    ],
)
def test_the_length_of_a_vector(kind: Any, length: int | None) -> None:
    assert vector_length(kind) == length
    assert is_column_type(kind) == (length is not None or kind in COLUMN_TYPES)


def test_types_in_polars() -> None:
    assert polars_type("vector(3)") == pl.List(pl.Float32)
    assert polars_type("timestamp") == pl.Datetime("us", "UTC")
    for wrong in ("vector", "text"):
        with pytest.raises(KeyError):
            polars_type(wrong)


def faults(columns: dict[str, Any], **more: Any) -> list[str]:
    given = {"key": "id", **more}
    table = rp.Project("p", owner="a@example.com").table("raw.texts", columns=columns, **given)
    found = Faults()
    check_table(table, found)
    return [f"{fault.what} -> {fault.mend}" for fault in found.found]


@pytest.mark.parametrize("kind", ["vector", "vector(0)", "vector(x)", "Vector(3)", "vector(70000)"])
def test_what_was_meant_as_a_vector_is_told(kind: str) -> None:
    [told] = faults({"id": "int64", "v": kind})
    assert "no vector type -> write vector(N), with N the number of its elements from 1 to 65,536" in told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"key": ("id", "v")}, "the key column 'v' is a vector(3)"),
        ({"sort_by": "v"}, "'v' is a vector(3), which has no order"),
        ({"cluster_by": rp.linear("v")}, "'v' is a vector(3), which has no order"),
        ({"partition_by": "v"}, "takes a column that is vector(3)"),
        ({"checks": [rp.unique("v")]}, "is a vector(3), which names nothing"),
        ({"event_time": "v"}, "is vector(3), not timestamp"),
    ],
)
def test_a_vector_names_and_orders_nothing(more: dict[str, Any], told: str) -> None:
    columns = {"id": "int64", "v": rp.Column("vector(3)", nullable=False)}
    assert any(told in fault for fault in faults(columns, **more))


def test_views_of_vectors() -> None:
    project = rp.Project("texts", owner="a@example.com")
    columns: dict[str, Any] = {"id": "int64", "at": rp.Column("timestamp", nullable=False), "v": "vector(3)"}
    texts = project.table("raw.texts", key="id", event_time="at", columns=columns)
    project.feature_view(
        "good", source=texts, entity="id", features={"v": pl.col("v"), "x": pl.col("v").list.get(2)}
    )
    assert [fault.what for fault in validate(project)] == []
    project.feature_view("bad", source=texts, entity="v", features={"x": pl.col("v").list.sum()})
    assert any("the entity column 'v' is a vector(3)" in fault.what for fault in validate(project))

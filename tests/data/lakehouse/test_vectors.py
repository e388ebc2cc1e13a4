"""Vectors in tables: kept to the bit in both layouts, held to their length, and followed by every upkeep."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import rayplat as rp
from rayplat.core.errors import UserError
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.integrity import verify_table
from rayplat.data.lakehouse.maintenance.compact import Compaction
from rayplat.data.lakehouse.maintenance.plan import Packing
from rayplat.data.lakehouse.migration import apply_table, plan_table
from rayplat.data.lakehouse.schema import VECTOR
from rayplat.data.lakehouse.vectors import changed, lengths_of, told

LENGTH = 3


def texts(length: int | None = LENGTH, name: str = "v", **more: Any) -> Table:
    columns: dict[str, Any] = {"id": rp.Column("int64", nullable=False), "n": "float64"}
    if length is not None:
        columns[name] = rp.Column(f"vector({length})", **more.pop("column", {}))
    project = rp.Project("texts", owner="a@example.com")
    return project.table("raw.texts", columns=columns, key="id", **more)


def rows(first: int, vectors: list[Any]) -> pa.Table:
    ids = pa.array(range(first, first + len(vectors)), pa.int64())
    return pa.table(
        {"id": ids, "n": pa.array([0.5] * len(vectors)), "v": pa.array(vectors, pa.large_list(pa.float32()))}
    )


def drawn(seed: int, count: int) -> list[Any]:
    made = np.random.default_rng(seed).normal(size=(count, LENGTH)).astype(np.float32).tolist()
    return [None if i % 5 == 2 else vector for i, vector in enumerate(made)]


@pytest.mark.parametrize("layout", ["compact", "read"])
def test_vectors_are_kept_to_the_bit_through_all_upkeep(lake: Lakehouse, layout: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    table = lake.ensure(texts(layout=layout, cluster_by=rp.linear("id")))
    given = drawn(seed, 40)
    for first in range(0, 40, 10):
        table.append(rows(first, given[first : first + 10]))
    assert table.schema().field("v").type == VECTOR
    assert table.read().sort_by("id")["v"].to_pylist() == given
    assert Compaction(table, Packing(min_files=2)).compact()
    after = lake.table("raw.texts")
    assert len(after.paths()) == 1
    read = after.read(where="id >= 7").sort_by("id")
    assert read["v"].to_pylist() == given[7:]
    assert pl.DataFrame(read).schema["v"] == pl.List(pl.Float32)
    lazy = after.scan().polars().sort("id").collect()
    assert lazy["v"].to_list() == given
    assert verify_table(after.base(), every=True).damaged == ()


@pytest.mark.parametrize(
    ("vector", "told_as"),
    [
        ([1.0], "a vector of 1 numbers"),
        ([1.0, None, 2.0], "a null element"),
        ([1.0, float("nan"), 2.0], "not finite"),
        ([1.0, float("inf"), 2.0], "not finite"),
    ],
)
def test_rows_that_are_written_by_hand_are_held_to_the_length(
    lake: Lakehouse, vector: list[Any], told_as: str
) -> None:
    table = lake.ensure(texts())
    with pytest.raises(UserError, match=told_as):
        table.append(rows(0, [[1.0, 2.0, 3.0], vector]))
    assert table.read().num_rows == 0


def test_a_flipped_bit_of_a_vector_hits_its_column_and_no_other(lake: Lakehouse) -> None:
    table = lake.ensure(texts(layout="read"))
    table.append(rows(0, drawn(1, 200)))
    [file] = (Path(path.removeprefix("file://")) for path in table.paths())
    content = bytearray(file.read_bytes())
    wanted = np.asarray(drawn(1, 1)[0], np.float32).tobytes()
    at = content.index(wanted)
    content[at] ^= 1
    file.write_bytes(content)
    [damage] = verify_table(table.base()).damaged
    assert [(r.first, r.end, r.column) for r in damage.rows] == [(0, 200, "v")]


def test_a_changed_length_is_refused_where_there_are_rows(lake: Lakehouse) -> None:
    lake.ensure(texts()).append(rows(0, drawn(0, 4)))
    plan = plan_table(lake, texts(4))
    assert any("v is vector(3) and declared vector(4)" in reason for reason in plan.refused)
    with pytest.raises(UserError, match=r"declared vector\(4\)"):
        apply_table(lake, texts(4))
    renamed = texts(4, "w", column={"renamed_from": "v"})
    assert any("w is vector(3)" in reason for reason in plan_table(lake, renamed).refused)
    apply_table(lake, texts(3, "w", column={"renamed_from": "v"}))
    assert lake.table("raw.texts").read(["w"])["w"].to_pylist() == drawn(0, 4)


def test_a_length_may_change_while_there_is_no_row(lake: Lakehouse) -> None:
    lake.ensure(texts())
    apply_table(lake, texts(4))
    with pytest.raises(UserError, match=r"vector\(4\)"):
        lake.table("raw.texts").append(rows(0, [[1.0, 2.0, 3.0]]))


def test_a_vector_is_added_to_rows_that_are_there_and_dropped(lake: Lakehouse) -> None:
    lake.ensure(texts(None)).append(rows(0, [None, None]).drop(["v"]))
    apply_table(lake, texts())
    table = lake.table("raw.texts")
    table.append(rows(2, [[1.0, 2.0, 3.0]]))
    assert table.read().sort_by("id")["v"].to_pylist() == [None, None, [1.0, 2.0, 3.0]]
    apply_table(lake, texts(None), allow_drop=True)
    assert lake.table("raw.texts").schema().names == ["id", "n"]


def test_lists_of_any_length_do_not_become_vectors(lake: Lakehouse) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.float64()), ("v", VECTOR)])
    lake.ensure_schema("raw.texts", schema).append(rows(0, [[1.0], [1.0, 2.0]]))
    assert any("a list of any length" in reason for reason in plan_table(lake, texts()).refused)


def test_lengths_as_a_property() -> None:
    assert told({}) == ""
    assert lengths_of({}) == {}
    assert lengths_of({"rayplat.vectors": told({"b": 2, "a": 1})}) == {"a": 1, "b": 2}
    assert changed({"a": 1}, {"b": 1, "c": 9}, {"b": "a"}) == []

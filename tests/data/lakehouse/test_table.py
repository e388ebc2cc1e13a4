"""One table: rows go in and come out, at any snapshot; wrong rows are told at the door."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from rayplat.core.errors import ConflictError, NotFoundError, UserError
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.snapshot import SnapshotAttempt
from rayplat.data.lakehouse.table import LakeTable

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("name", pa.string()),
        pa.field("raw", pa.binary()),
    ]
)


def rows(*ids: int) -> pa.Table:
    return pa.table(
        {
            "id": list(ids),
            "at": [datetime(2013, 1, 1, tzinfo=UTC)] * len(ids),
            "name": [f"n{i}" for i in ids],
            "raw": [b"\x00"] * len(ids),
        },
        schema=SCHEMA,
    )


@pytest.fixture
def table(lake: Lakehouse) -> LakeTable:
    return lake.ensure_schema("raw.a", SCHEMA)


def test_a_new_table_is_empty(table: LakeTable) -> None:
    assert table.snapshot_id() is None
    assert table.count() == 0
    assert table.history() == []
    assert table.read().schema == SCHEMA


def test_rows_come_back_as_they_went_in(table: LakeTable) -> None:
    table.append(rows(1, 2))
    table.append(rows(3))
    data = table.read()
    assert data.schema == SCHEMA
    assert sorted(data["id"].to_pylist()) == [1, 2, 3]
    assert table.read().equals(data), "the same snapshot gives the same order"
    assert table.count() == 3


def test_columns_and_filter(table: LakeTable) -> None:
    table.append(rows(1, 2, 3))
    data = table.read(["name", "id"], where="id >= 2 and name != 'n3'")
    assert data.to_pylist() == [{"name": "n2", "id": 2}]


def test_time_travel_and_history(table: LakeTable) -> None:
    first = table.append(rows(1), {"rayplat.source": "test"})
    second = table.overwrite(rows(7, 8))
    assert table.read(snapshot_id=first)["id"].to_pylist() == [1]
    assert (table.count(first), table.count()) == (1, 2)
    assert table.snapshot_id() == second
    history = table.history()
    assert [h.snapshot_id for h in history] == [first, second]
    assert [(h.operation, h.rows_added, h.rows_total) for h in history] == [
        ("append", 1, 1),
        ("overwrite", 2, 2),
    ]
    assert (history[0].source, history[0].offsets, history[0].at.tzinfo) == ("test", {}, UTC)


def test_overwriting_is_one_snapshot_and_may_empty_the_table(table: LakeTable) -> None:
    table.append(rows(1))
    table.append(rows(2))
    table.overwrite(rows())
    assert table.count() == 0
    assert table.read().num_rows == 0
    assert len(table.history()) == 3


def test_an_append_of_nothing_still_says_something(table: LakeTable) -> None:
    table.append(rows(), {"note": "nothing came"})
    assert table.history()[-1].properties["note"] == "nothing came"


def test_wider_and_larger_types_are_taken(table: LakeTable) -> None:
    given = rows(1).set_column(0, "id", pa.array([5], pa.int32()))
    table.append(given.set_column(2, "name", pa.array(["x"], pa.large_string())))
    assert table.read(["id", "name"]).to_pylist() == [{"id": 5, "name": "x"}]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (rows(1).drop_columns(["name"]), "lack"),
        (rows(1).append_column("more", pa.array([1])), "unknown"),
        (rows(1).set_column(0, "id", pa.array([None], pa.int64())), "1 nulls in 'id'"),
        (rows(1).set_column(2, "name", pa.array([1])), "'name' of table raw.a is string"),
        (rows(1).set_column(1, "at", pa.array(["2013"])), "'at' of table"),
    ],
)
def test_wrong_rows_are_told_and_nothing_is_written(table: LakeTable, wrong: pa.Table, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        table.append(wrong)
    assert table.snapshot_id() is None


def test_wrong_questions_are_told(table: LakeTable) -> None:
    table.append(rows(1))
    with pytest.raises(NotFoundError, match="no column nothing"):
        table.read(["nothing"])
    with pytest.raises(UserError, match="cannot be read where 'id >'"):
        table.read(where="id >")
    with pytest.raises(UserError, match="cannot be read where 'nothing = 1'"):
        table.read(where="nothing = 1")
    with pytest.raises(NotFoundError, match="no snapshot 5"):
        table.read(snapshot_id=5)
    with pytest.raises(NotFoundError, match="no snapshot 5"):
        table.count(5)


def test_an_attempt_on_an_old_view_of_the_table_conflicts(table: LakeTable) -> None:
    files = table.write_files(rows(1))
    attempt = SnapshotAttempt(table.base(), files, {})
    table.append(rows(2))
    with pytest.raises(ConflictError):
        attempt.commit()
    assert table.read(["id"])["id"].to_pylist() == [2]

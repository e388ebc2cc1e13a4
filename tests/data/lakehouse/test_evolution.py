"""Declared changes of a table with rows: what Iceberg allows is made, by field id; the rest is refused."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

import rayplat as rp
from rayplat.core.errors import UserError
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.migration import apply_project, apply_table, plan_project, plan_table
from rayplat.data.lakehouse.schema import wide_source

NAME = "raw.orders"
COLUMNS: Mapping[str, Any] = {
    "id": rp.Column("int32", nullable=False),
    "at": "timestamp",
    "amount": "float32",
    "city": "string",
    "note": "string",
}


def orders(columns: Mapping[str, Any] | None = None, **more: Any) -> Table:
    given = {"key": "id", "event_time": "at", **more}
    return rp.Project("shop", owner="a@example.com").table(NAME, columns=columns or COLUMNS, **given)


def rows(count: int = 3) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(count), pa.int32()),
            "at": pa.array([i * 3_600_000_000 * 24 for i in range(count)], pa.timestamp("us", "UTC")),
            "amount": pa.array([i / 2 for i in range(count)], pa.float32()),
            "city": ["Rome", "Oslo", "Rome"][:count],
            "note": ["a", "b", None][:count],
        }
    )


@pytest.fixture
def made(lake: Lakehouse) -> Lakehouse:
    lake.ensure(orders()).append(rows())
    return lake


def changed(**columns: Any) -> Table:
    """The table with some columns declared differently; None takes one away."""
    return orders({name: c for name, c in {**COLUMNS, **columns}.items() if c is not None})


def kinds(lake: Lakehouse, table: Table, **flags: bool) -> list[tuple[str, str]]:
    return [(s.kind, s.subject) for s in plan_table(lake, table, **flags).steps]


def version(lake: Lakehouse) -> str:
    return str(lake.table(NAME).native().metadata_location)


def test_a_new_table_is_planned_and_made(lake: Lakehouse) -> None:
    table = orders(
        {**COLUMNS, "email": rp.Column("string", pii=True, unit="address", description="where to write")},
        partition_by=["month(at)", "bucket(4, id)"],
        sort_by=["city", "-at"],
        cluster_by=rp.zorder("city", "id"),
        retention=timedelta(days=30),
        layout="read",
        description="what was ordered",
    )
    assert kinds(lake, table) == [("create", "")]
    assert lake.names() == []
    assert [s.kind for s in apply_table(lake, table).steps] == ["create"]
    native = lake.table(NAME).native()
    assert native.schema().identifier_field_names() == {"id"}
    assert native.schema().find_field("email").doc == "where to write [address]"
    assert [f.name for f in native.spec().fields] == ["at_month", "id_bucket_4"]
    assert len(native.sort_order().fields) == 2
    told = {
        name: value for name, value in native.properties.items() if not name.startswith(("write", "commit"))
    }
    assert told == {
        "rayplat.key": '["id"]',
        "rayplat.event_time": "at",
        "rayplat.mode": "append",
        "rayplat.retention_s": "2592000",
        "rayplat.pii": '["email"]',
        "rayplat.cluster_by": '{"kind": "zorder", "columns": ["city", "id"]}',
        "rayplat.layout": "read",
        "comment": "what was ordered",
    }
    assert kinds(lake, table) == []
    before = version(lake)
    apply_table(lake, table)
    assert version(lake) == before, "nothing to do commits nothing"


def test_every_allowed_change_at_once_in_one_transaction(made: Lakehouse) -> None:
    before = made.table(NAME).native()
    table = orders(
        {
            "id": rp.Column("int64", nullable=False),
            "at": "timestamp",
            "total": rp.Column("float64", renamed_from="amount", unit="EUR"),
            "city": "string",
            "paid": "bool",
        },
        partition_by="day(at)",
        sort_by="city",
        mode="append",
        description="orders",
    )
    found = kinds(made, table, allow_drop=True)
    assert set(found) == {
        ("widen", "id"), ("rename", "total"), ("widen", "total"), ("doc", "total"), ("add", "paid"),
        ("drop", "note"), ("partition", ""), ("sort", ""), ("property", "comment"),
    }  # fmt: skip
    apply_table(made, table, allow_drop=True)
    after = made.table(NAME).native()
    assert len(after.metadata.metadata_log) == len(before.metadata.metadata_log) + 1, "one transaction"
    for new, old in {"id": "id", "total": "amount", "city": "city"}.items():
        assert after.schema().find_field(new).field_id == before.schema().find_field(old).field_id
    lake_table = made.table(NAME)
    more = pa.table(
        {
            "id": [7],
            "at": pa.array([0], pa.timestamp("us", "UTC")),
            "total": [9.25],
            "city": ["Bern"],
            "paid": [True],
        }
    )
    lake_table.append(more)
    got = sorted(lake_table.read(["id", "total", "city", "paid"]).to_pylist(), key=lambda r: r["id"])
    assert got == [
        {"id": 0, "total": 0.0, "city": "Rome", "paid": None},
        {"id": 1, "total": 0.5, "city": "Oslo", "paid": None},
        {"id": 2, "total": 1.0, "city": "Rome", "paid": None},
        {"id": 7, "total": 9.25, "city": "Bern", "paid": True},
    ]
    assert kinds(made, table) == []
    assert lake_table.read(where="city = 'Rome'").num_rows == 2


def test_a_renamed_column_that_is_renamed_already_is_left(made: Lakehouse) -> None:
    table = changed(city=None, town=rp.Column("string", renamed_from="city"))
    assert kinds(made, table) == [("rename", "town")]
    apply_table(made, table)
    assert kinds(made, table) == []
    assert sorted(made.table(NAME).read()["town"].to_pylist()) == ["Oslo", "Rome", "Rome"]


def test_a_renamed_key_stays_the_key(made: Lakehouse) -> None:
    columns = {"number": rp.Column("int32", nullable=False, renamed_from="id"), **COLUMNS}
    del columns["id"]
    table = orders(columns, key="number")
    apply_table(made, table)
    assert made.table(NAME).native().schema().identifier_field_names() == {"number"}
    assert kinds(made, table) == []


def test_a_key_column_may_be_dropped_when_another_key_is_declared(made: Lakehouse) -> None:
    columns = {**COLUMNS, "at": rp.Column("timestamp", nullable=False)}
    del columns["id"]
    apply_table(made, orders(columns, key="at"), allow_drop=True)
    assert made.table(NAME).native().schema().identifier_field_names() == {"at"}
    assert made.table(NAME).read().column_names == ["at", "amount", "city", "note"]


REFUSED: list[tuple[Table, str]] = [
    (changed(note=None), r"note is in the table and no longer declared \(--allow-drop drops it\)"),
    (changed(amount="int64"), "amount is float and declared int64"),
    (changed(id=rp.Column("string", nullable=False)), "id is int32 and declared string"),
    (changed(city=rp.Column("string", nullable=False)), "city is nullable and declared not nullable"),
    (changed(new=rp.Column("string", nullable=False)), "new is new and may not be null"),
    (
        changed(city=rp.Column("string", renamed_from="note"), note=None),
        "note cannot become city: the table has a column city already",
    ),
    (replace(orders(), partition_by=("day(city)",)), "day does not take city, a string"),
    (replace(orders(), mode="upsert"), "the mode cannot become upsert"),
]


@pytest.mark.parametrize(("table", "reason"), REFUSED, ids=[reason[:25] for _, reason in REFUSED])
def test_what_is_not_allowed_is_refused_and_nothing_is_changed(
    made: Lakehouse, table: Table, reason: str
) -> None:
    before = version(made)
    refused = plan_table(made, replace(table, description="changed as well")).refused
    assert re.search(reason, "; ".join(refused))
    with pytest.raises(UserError, match=reason):
        apply_table(made, table)
    assert version(made) == before


def test_a_column_by_which_files_are_partitioned_is_never_dropped(lake: Lakehouse) -> None:
    lake.ensure(orders(partition_by="city")).append(rows())
    columns = {name: c for name, c in COLUMNS.items() if name != "city"}
    found = plan_table(lake, orders(columns), allow_drop=True)
    assert found.refused == ("city cannot be dropped: files of the table are partitioned by it",)


def test_the_key_of_an_upserted_table_stays(lake: Lakehouse) -> None:
    lake.ensure(orders(mode="upsert")).append(rows())
    columns = {**COLUMNS, "at": rp.Column("timestamp", nullable=False)}
    (reason,) = plan_table(lake, orders(columns, key=("id", "at"), mode="upsert")).refused
    assert "the key" in reason


def test_partitioning_evolves_back_and_forth_and_all_rows_are_read(lake: Lakehouse) -> None:
    plain, by_city, by_day = orders(), orders(partition_by="city"), orders(partition_by=["day(at)", "city"])
    for number, table in enumerate([plain, by_city, by_day, plain, by_city], 1):
        apply_table(lake, table)
        lake.table(NAME).append(rows())
        assert lake.table(NAME).count() == 3 * number
        assert lake.table(NAME).read(where="city = 'Oslo'").num_rows == number
        assert kinds(lake, table) == []


def test_sorting_evolves_back_to_none(lake: Lakehouse) -> None:
    for table in [orders(), orders(sort_by="-city"), orders(sort_by=["city", "at"]), orders()]:
        apply_table(lake, table)
        lake.table(NAME).append(rows())
        assert kinds(lake, table) == []
    assert lake.table(NAME).count() == 12


def test_properties_that_are_no_longer_declared_are_taken_away(lake: Lakehouse) -> None:
    apply_table(lake, orders(retention=timedelta(days=1), description="x"))
    apply_table(lake, orders())
    properties = lake.table(NAME).native().properties
    assert "rayplat.retention_s" not in properties
    assert "comment" not in properties
    assert properties["commit.retry.num-retries"] == "0"


def test_ingest_adds_and_widens_and_leaves_the_rest_to_apply(made: Lakehouse) -> None:
    table = replace(
        changed(id=rp.Column("int64", nullable=False), more="date"),
        description="told",
        partition_by=("city",),
    )
    made.ensure(table)
    schema = made.table(NAME).schema()
    assert schema.field("id").type == pa.int64()
    assert schema.field("more").type == pa.date32()
    assert {kind for kind, _ in kinds(made, table)} == {"property", "partition"}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (changed(note=None), "note is in the table and no longer declared"),
        (changed(note=None, memo=rp.Column("string", renamed_from="note")), "rename column note to memo"),
        (
            changed(at=rp.Column("timestamp"), id=rp.Column("int32")),
            "id is not nullable and declared nullable",
        ),
    ],
)
def test_ingest_never_drops_renames_or_relaxes(made: Lakehouse, table: Table, reason: str) -> None:
    before = version(made)
    with pytest.raises(UserError, match=reason) as raised:
        made.ensure(table)
    assert "rayplat data apply" in raised.value.mend
    assert version(made) == before


def test_a_project_changes_as_a_whole_or_not_at_all(made: Lakehouse) -> None:
    project = rp.Project("shop", owner="a@example.com")
    project.table("raw.new", columns={"k": "string"}, key="k")
    tables = [*project.tables, changed(amount="string")]
    made.ensure_schema("raw.other", pa.schema([("x", pa.int64())]))
    made.ensure_schema("training.set", pa.schema([("x", pa.int64())]))
    refused = apply_project(made, tables)
    assert (refused.refused, refused.applied, refused.undeclared) == (True, False, ("raw.other",))
    assert not made.exists("raw.new")
    done = apply_project(made, [*project.tables, changed(more="string")])
    assert (done.refused, done.applied) == (False, True)
    assert [len(p.steps) for p in done.tables] == [1, 1]
    assert not any(p.steps for p in plan_project(made, [*project.tables, changed(more="string")]).tables)
    assert made.exists("raw.other")


@pytest.mark.parametrize(
    ("source", "types"),
    [
        (rp.Kafka("t"), (pa.int32(), pa.int64())),
        (rp.Files("in"), (pa.int32(), pa.int64())),
        (rp.Kinesis("s"), (pa.string(), pa.string())),
        (rp.Database("main", "orders", "at"), (pa.string(), pa.string())),
    ],
)
def test_system_columns_hold_what_the_source_numbers_by(
    lake: Lakehouse, source: Any, types: tuple[pa.DataType, pa.DataType]
) -> None:
    schema = lake.ensure(orders(source=source)).schema()
    assert (schema.field("_partition").type, schema.field("_offset").type) == types
    assert wide_source(source) is (types[0] == pa.string())

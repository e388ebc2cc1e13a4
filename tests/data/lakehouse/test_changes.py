"""Rows changed by key and by filter: a model in plain Python says what must be left."""

import random
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import rayplat as rp
from rayplat.core.errors import ConflictError, IntegrityError, UserError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.change import commit, delete, delete_by_key, overwrite, upsert
from rayplat.data.lakehouse.changes import merge
from rayplat.data.lakehouse.migration import apply_table
from rayplat.data.lakehouse.table import LakeTable

START = datetime(2013, 1, 1, tzinfo=UTC)
COLUMNS: dict[str, Any] = {
    "id": "int64",
    "at": rp.Column("timestamp"),
    "value": "string",
    "amount": "float64",
}
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("value", pa.string()),
        pa.field("amount", pa.float64()),
    ]
)
ORDER = ["at"]


def made(lake: Lakehouse, **more: Any) -> LakeTable:
    columns = more.pop("columns", COLUMNS)
    declared = rp.Project("p", owner="a@example.com").table("raw.a", columns=columns, key="id", **more)
    apply_table(lake, declared)
    return lake.table("raw.a")


def row(key: int, at: int | None, value: str, amount: float | None = None) -> dict[str, Any]:
    return {
        "id": key,
        "at": None if at is None else START + timedelta(hours=at),
        "value": value,
        "amount": amount,
    }


def rows(*found: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(found), schema=SCHEMA)


def content(table: LakeTable) -> dict[int, str]:
    found = table.read(["id", "value"]).to_pylist()
    ids = [r["id"] for r in found]
    assert len(ids) == len(set(ids)), f"a key is there twice: {sorted(ids)}"
    return {r["id"]: r["value"] for r in found}


def test_the_last_by_event_time_wins_in_the_batch_and_against_what_is_stored(lake: Lakehouse) -> None:
    table = made(lake)
    first = upsert(
        table, rows(row(1, 5, "a"), row(1, 9, "b"), row(1, 7, "c"), row(2, 1, "d")), ["id"], order_by=ORDER
    )
    assert (first.inserted, first.updated, first.deleted, first.based_on) == (2, 0, 0, None)
    assert content(table) == {1: "b", 2: "d"}
    second = upsert(
        table, rows(row(1, 8, "old"), row(2, 1, "same"), row(3, None, "new")), ["id"], order_by=ORDER
    )
    assert (second.inserted, second.updated) == (1, 1)
    assert content(table) == {1: "b", 2: "same", 3: "new"}
    upsert(table, rows(row(3, -99999, "any time is after none")), ["id"], order_by=ORDER)
    assert content(table)[3] == "any time is after none"


def test_of_equal_rows_the_later_given_one_wins(lake: Lakehouse) -> None:
    table = made(lake)
    upsert(table, rows(row(1, 5, "a"), row(1, 5, "b")), ["id"], order_by=ORDER)
    assert content(table) == {1: "b"}


def test_the_same_rows_again_and_only_older_rows_change_nothing_that_is_read(lake: Lakehouse) -> None:
    table = made(lake)
    batch = rows(row(1, 5, "a"), row(2, 5, "b"))
    upsert(table, batch, ["id"], order_by=ORDER)
    snapshot = table.snapshot_id()
    older = upsert(table, rows(row(1, 4, "x"), row(2, 3, "y")), ["id"], order_by=ORDER)
    assert older.empty
    assert table.snapshot_id() == snapshot, "nothing to do makes no snapshot"
    upsert(table, batch, ["id"], order_by=ORDER)
    assert content(table) == {1: "a", 2: "b"}


def test_deletions_are_ordered_like_rows(lake: Lakehouse) -> None:
    table = made(lake)

    def change(*found: tuple[dict[str, Any], bool | None]) -> Any:
        batch = rows(*(r for r, _ in found)).append_column(
            "gone", pa.array([g for _, g in found], pa.bool_())
        )
        return upsert(table, batch, ["id"], order_by=ORDER, deleted="gone")

    change((row(1, 1, "a"), False), (row(2, 1, "b"), None), (row(3, 1, "c"), False), (row(3, 2, ""), True))
    assert content(table) == {1: "a", 2: "b"}
    done = change((row(1, 0, ""), True), (row(2, 5, ""), True), (row(9, 5, ""), True))
    assert (done.inserted, done.updated, done.deleted) == (0, 0, 1)
    assert content(table) == {1: "a"}
    change((row(2, 6, "again"), False), (row(1, 3, ""), True), (row(1, 4, "back"), False))
    assert content(table) == {1: "back", 2: "again"}


def test_only_files_that_hold_a_row_that_goes_are_written_again(lake: Lakehouse) -> None:
    table = made(lake, sort_by="id")
    for start in (0, 100, 200):
        table.append(rows(*(row(i, 1, "old") for i in range(start, start + 100))))
    before = table.paths()
    change = upsert(table, rows(row(150, 2, "new"), row(999, 2, "more")), ["id"], order_by=ORDER)
    assert (change.inserted, change.updated, len(change.removed)) == (1, 1, 1)
    assert len(before & table.paths()) == 2
    assert table.count() == 301
    assert table.history()[-1].operation == "overwrite"
    assert content(table)[150] == "new"


@pytest.mark.parametrize(
    "layout", [{}, {"partition_by": ["day(at)", "bucket(3, id)"]}, {"partition_by": "value"}]
)
@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_batches_leaves_what_the_model_says(lake: Lakehouse, layout: Any, seed: int) -> None:
    """Inserts, updates, deletions and repetitions, with rows that wander between partitions."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    table = made(lake, **layout)
    model: dict[int, tuple[int, str]] = {}
    for batch_number in range(8):
        batch = [
            (rng.randrange(12), rng.randrange(100), f"{batch_number}.{i}", rng.random() < 0.2)
            for i in range(15)
        ]
        given = rows(*(row(key, at, value) for key, at, value, _ in batch))
        given = given.append_column("gone", pa.array([gone for *_, gone in batch]))
        upsert(table, given, ["id"], order_by=ORDER, deleted="gone")
        last: dict[int, tuple[int, str, bool]] = {}
        for key, at, value, gone in batch:
            if key not in last or at >= last[key][0]:
                last[key] = (at, value, gone)
        for key, (at, value, gone) in last.items():
            if key in model and at < model[key][0]:
                continue
            model.pop(key, None)
            if not gone:
                model[key] = (at, value)
        assert content(table) == {key: value for key, (_, value) in model.items()}, f"batch {batch_number}"


def test_keys_of_several_columns_and_of_many_types(lake: Lakehouse) -> None:
    columns: dict[str, Any] = {
        "a": "string", "b": "date", "c": "timestamp", "d": "binary", "e": "bool", "f": "int32", "v": "string"
    }  # fmt: skip
    project = rp.Project("p", owner="a@example.com")
    key = ["a", "b", "c", "d", "e", "f"]
    table = lake.ensure(project.table("raw.k", columns=columns, key=key))
    schema = table.schema()

    def some(value: str, *numbers: int) -> pa.Table:
        return pa.Table.from_pylist(
            [
                {
                    "a": f"ä{n % 5}",
                    "b": (START + timedelta(days=n % 3)).date(),
                    "c": START + timedelta(hours=n % 7),
                    "d": bytes([n % 2, 255]),
                    "e": n % 2 == 0,
                    "f": n,
                    "v": value,
                }
                for n in numbers
            ],
            schema=schema,
        )

    upsert(table, some("old", *range(300)), key, order_by=["f"])
    change = upsert(table, some("new", *range(250, 500)), key, order_by=["f"])
    assert (change.inserted, change.updated) == (200, 50)
    found = table.read(["f", "v"]).to_pylist()
    assert {r["f"]: r["v"] for r in found} == {n: "new" if n >= 250 else "old" for n in range(500)}
    assert len(found) == 500
    assert delete_by_key(table, some("", 3, 499).select(key)).deleted == 2
    assert table.count() == 498


def test_offsets_as_text_are_compared_as_numbers(lake: Lakehouse) -> None:
    project = rp.Project("p", owner="a@example.com")
    declared = project.table(
        "raw.s", columns={"id": "int64", "v": "string"}, key="id", source=rp.Kinesis("s")
    )
    table = lake.ensure(declared)

    def some(offset: str, value: str) -> pa.Table:
        found = {"id": 1, "v": value, "_partition": "shard", "_offset": offset}
        return pa.Table.from_pylist([found], schema=table.schema())

    for offset, value in [("9", "a"), ("10", "b"), ("9", "late")]:
        upsert(table, some(offset, value), ["id"], order_by=["_offset"])
    assert table.read(["v", "_offset"]).to_pylist() == [{"v": "b", "_offset": "10"}]


def test_rows_of_older_columns_are_merged(lake: Lakehouse) -> None:
    table = made(lake, columns={**COLUMNS, "amount": "float32"})
    narrow = SCHEMA.set(3, pa.field("amount", pa.float32()))
    table.append(pa.Table.from_pylist([row(1, 1, "a", 0.5), row(2, 1, "b")], schema=narrow))
    columns = {**COLUMNS, "price": rp.Column("float64", renamed_from="amount"), "more": "bool"}
    del columns["amount"]
    table = made(lake, columns=columns)
    given = pa.Table.from_pylist(
        [{"id": 2, "value": "new", "price": 2.5, "more": True}], schema=table.schema()
    )
    upsert(table, given, ["id"], order_by=ORDER)  # no time at all: older than what is stored
    assert content(table) == {1: "a", 2: "b"}
    given = given.set_column(1, "at", pa.array([START + timedelta(days=9)], pa.timestamp("us", "UTC")))
    upsert(table, given, ["id"], order_by=ORDER)
    found = sorted(table.read(["id", "price", "more"]).to_pylist(), key=lambda r: r["id"])
    assert found == [{"id": 1, "price": 0.5, "more": None}, {"id": 2, "price": 2.5, "more": True}]


def test_delete_by_filter_keeps_rows_for_which_it_is_null(lake: Lakehouse) -> None:
    table = made(lake)
    table.append(
        rows(row(1, 1, "a", 5.0), row(2, 1, "b", None), row(3, 1, "c", 50.0), row(4, 1, "d", float("nan")))
    )
    change = delete(table, "amount > 10")
    assert change.deleted == 1
    assert set(content(table)) == {1, 2, 4}
    assert delete(table, "amount <= 5").deleted == 1
    assert delete(table, "value = 'no such'").empty
    assert set(content(table)) == {2, 4}
    assert delete(table, "id >= 0").deleted == 2
    assert table.count() == 0
    assert table.history()[-1].operation == "delete"


def test_whole_partitions_go_unread(lake: Lakehouse) -> None:
    table = made(lake, partition_by="value")
    table.append(rows(*(row(i, 1, "ab"[i % 2]) for i in range(10))))
    for path in table.paths():
        if "value=a" in path:
            Path(path.removeprefix("file://")).unlink()
    assert delete(table, "value = 'a'").deleted == 5
    assert set(content(table)) == {1, 3, 5, 7, 9}


def test_overwrite_by_filter_replaces_what_the_filter_names(lake: Lakehouse) -> None:
    table = made(lake, partition_by="day(at)")
    table.append(rows(*(row(i, 24 * (i % 3), "old") for i in range(9))))
    day = "at >= '2013-01-02T00:00:00+00:00' and at < '2013-01-03T00:00:00+00:00'"
    change = overwrite(table, rows(row(100, 25, "new")), day)
    assert (change.inserted, change.deleted, len(change.removed)) == (1, 3, 1)
    assert content(table) == {**{i: "old" for i in range(9) if i % 3 != 1}, 100: "new"}
    with pytest.raises(UserError, match=r"1 of 2 rows for table raw\.a are not where"):
        overwrite(table, rows(row(1, 25, "x"), row(2, 0, "y")), day)


def test_a_change_planned_on_a_table_that_changed_is_planned_again(lake: Lakehouse) -> None:
    table = made(lake)
    upsert(table, rows(row(1, 1, "a")), ["id"], order_by=ORDER)
    stale = merge(table, rows(row(1, 2, "b")), ["id"], order_by=ORDER)
    upsert(table, rows(row(1, 3, "c")), ["id"], order_by=ORDER)
    with pytest.raises(ConflictError):
        table.replace(stale.added, stale.removed, based_on=stale.based_on)
    plans = []

    def plan(native: Any, writer: Any) -> Any:
        from rayplat.data.lakehouse.changes import merge_into

        plans.append(native)
        change = merge_into(native, writer, rows(row(2, 1, "mine")), ["id"], order_by=ORDER)
        if len(plans) == 1:  # another writer inserts the same key just now
            upsert(table, rows(row(2, 9, "theirs")), ["id"], order_by=ORDER)
        return change

    commit(table, plan)
    assert len(plans) == 2
    assert content(table) == {1: "c", 2: "theirs"}


def test_a_file_that_is_not_what_was_written_is_not_written_again(lake: Lakehouse) -> None:
    table = made(lake)
    table.append(rows(row(1, 1, "a"), row(2, 1, "b")))
    (path,) = table.paths()
    file = Path(path.removeprefix("file://"))
    spoilt = bytearray(file.read_bytes())
    spoilt[10] ^= 1
    file.write_bytes(spoilt)
    for attempt in (
        lambda: upsert(table, rows(row(1, 2, "x")), ["id"], order_by=ORDER),
        lambda: delete(table, "id = 1"),
        lambda: delete_by_key(table, pa.table({"id": [1]})),
    ):
        with pytest.raises(IntegrityError, match="SHA-256"):
            attempt()
    assert len(table.history()) == 1


def test_wrong_rows_and_filters_are_told(lake: Lakehouse) -> None:
    table = made(lake)
    null = pa.table({"id": pa.array([None], pa.int64()), "at": [START], "value": ["x"], "amount": [1.0]})
    with pytest.raises(UserError, match=r"key column id of raw\.a has missing values"):
        upsert(table, null, ["id"], order_by=ORDER)
    with pytest.raises(UserError, match="lack value, gone"):
        upsert(table, rows(row(1, 1, "a")).drop_columns(["value"]), ["id"], order_by=ORDER, deleted="gone")
    with pytest.raises(UserError, match="no key column nothing"):
        delete_by_key(table, pa.table({"nothing": [1]}))
    with pytest.raises(UserError, match="is not understood"):
        delete(table, "id >")
    with pytest.raises(UserError, match="cannot be changed where"):
        delete(table, "nothing = 1")


def test_processes_that_upsert_the_same_keys_leave_each_key_once(
    lake: Lakehouse, settings: Settings, tmp_path: Path
) -> None:
    table = made(lake)
    script = tmp_path / "writer.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from datetime import UTC, datetime, timedelta
            from pathlib import Path
            import pyarrow as pa
            from rayplat.core.settings import Settings
            from rayplat.data.lakehouse.catalog import Lakehouse
            from rayplat.data.lakehouse.change import upsert
            me, table = int(sys.argv[2]), Lakehouse(Settings(home=Path(sys.argv[1]))).table("raw.a")
            for n in range(5):
                at = datetime(2013, 1, 1, tzinfo=UTC) + timedelta(hours=n * 10 + me)
                found = [{"id": i, "at": at, "value": f"{n}.{me}", "amount": None} for i in range(20)]
                upsert(table, pa.Table.from_pylist(found, schema=table.schema()), ["id"], order_by=["at"])
            """
        )
    )
    argv = [sys.executable, "-W", "error", str(script), str(settings.home)]
    writers = [subprocess.Popen([*argv, str(n)], stderr=subprocess.PIPE) for n in range(3)]
    assert [writer.communicate(timeout=180)[1].decode() for writer in writers] == [""] * 3
    assert content(table) == dict.fromkeys(range(20), "4.2")

"""What every lakehouse must do, whichever catalog and storage it has. A subclass gives `settings`."""

import json
import pickle
from collections.abc import Iterator

import pyarrow as pa
import pytest

import rayplat as rp
from rayplat.core.errors import ConflictError, NotFoundError, UserError
from rayplat.core.project.table import Table
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.lakehouse.files import digest_of
from rayplat.data.lakehouse.migration import apply_table, plan_table
from rayplat.data.lakehouse.objects import get
from rayplat.data.lakehouse.storage import file_systems

NAME = "raw.stops"


def stops(**more: object) -> Table:
    columns = {"id": "int64", "line": "string", "delay": "float32", **more.pop("columns", {})}  # type: ignore[dict-item]
    return rp.Project("p", owner="a@example.com").table(NAME, columns=columns, key="id", **more)  # type: ignore[arg-type]


def rows(*ids: int) -> pa.Table:
    delays = pa.array([i / 2 for i in ids], pa.float32())
    return pa.table({"id": list(ids), "line": [f"S{i % 3}" for i in ids], "delay": delays})


class LakeContract:
    @pytest.fixture
    def lake(self, settings: Settings) -> Iterator[Lakehouse]:
        lake = Lakehouse(settings)
        yield lake
        lake.close()

    def test_tables_by_name(self, lake: Lakehouse) -> None:
        assert lake.names() == []
        assert not lake.exists(NAME)
        with pytest.raises(NotFoundError, match=r"there is no table 'raw\.stops'"):
            lake.table(NAME)
        lake.ensure(stops())
        lake.ensure_schema("other.a", pa.schema([("x", pa.int64())]))
        assert lake.names() == ["other.a", NAME]
        assert lake.exists(NAME)

    def test_rows_snapshots_and_time_travel(self, lake: Lakehouse) -> None:
        table = lake.ensure(stops())
        first = table.append(rows(1, 2), {"note": "one"})
        table.append(rows(3))
        assert sorted(table.read()["id"].to_pylist()) == [1, 2, 3]
        assert sorted(table.read(snapshot_id=first)["id"].to_pylist()) == [1, 2]
        assert table.read(["line"], where="id >= 3").to_pylist() == [{"line": "S0"}]
        third = table.overwrite(rows(9))
        assert [h.rows_total for h in table.history()] == [2, 3, 1]
        assert table.history()[0].properties["note"] == "one"
        assert (table.snapshot_id(), table.count(), table.count(first)) == (third, 1, 2)

    def test_files_are_where_their_address_says_with_the_digest_in_the_name(
        self, lake: Lakehouse, settings: Settings
    ) -> None:
        import hashlib

        table = lake.ensure(stops(partition_by="line"))
        written = table.write_files(rows(1, 2, 3, 4))
        assert len(written) == 3
        for file in written:
            assert file.path.startswith(table.location())
            content = get(file_systems(settings), file.path)
            assert digest_of(file.path) == hashlib.sha256(content).hexdigest() == file.sha256

    def test_a_declared_table_evolves(self, lake: Lakehouse) -> None:
        apply_table(lake, stops())
        lake.table(NAME).append(rows(1, 2))
        changed = rp.Project("p", owner="a@example.com").table(
            NAME,
            columns={
                "id": "int64",
                "route": rp.Column("string", renamed_from="line"),
                "delay": "float64",
                "more": "bool",
            },
            key="id",
            partition_by="bucket(2, id)",
            sort_by="-id",
            description="stops",
        )
        plan = plan_table(lake, changed)
        assert {s.kind for s in plan.steps} == {"rename", "widen", "add", "partition", "sort", "property"}
        apply_table(lake, changed)
        assert plan_table(lake, changed).steps == ()
        table = lake.table(NAME)
        table.append(
            pa.table({"id": [7, 8], "route": ["U1", "U2"], "delay": [0.1, 0.2], "more": [True, None]})
        )
        got = sorted(table.read(["id", "route"]).to_pylist(), key=lambda row: row["id"])
        assert [row["route"] for row in got] == ["S1", "S2", "U1", "U2"]
        with pytest.raises(UserError, match="delay is double and declared string"):
            apply_table(lake, stops(columns={"delay": "string"}))

    def test_offsets_move_once_and_a_zombie_is_refused(self, lake: Lakehouse) -> None:
        table = lake.ensure(stops())
        fenced, zombie = (FencedCommitter(lake, NAME, "kafka:stops") for _ in range(2))
        fenced.commit(table.write_files(rows(1)), {}, {"0": 10})
        with pytest.raises(ConflictError, match="another ingest"):
            zombie.commit(table.write_files(rows(1)), {}, {"0": 10})
        table.append(rows(5))
        fenced.commit(table.write_files(rows(2)), {"0": 10}, {"0": 20})
        assert fenced.committed() == {"0": 20}
        assert sorted(table.read()["id"].to_pylist()) == [1, 2, 5]
        assert json.loads(table.history()[-1].properties["rayplat.offsets"]) == {"0": 20}

    def test_two_lakehouses_see_each_other(self, lake: Lakehouse, settings: Settings) -> None:
        lake.ensure(stops())
        other = pickle.loads(pickle.dumps(lake))
        for number in range(5):
            (lake if number % 2 else other).table(NAME).append(rows(number))
        assert sorted(other.table(NAME).read()["id"].to_pylist()) == list(range(5))
        assert len(lake.table(NAME).history()) == 5
        other.close()

    def test_a_writer_works_from_afar(self, lake: Lakehouse) -> None:
        table = lake.ensure(stops())
        writer = pickle.loads(pickle.dumps(table.writer()))
        table.replace(writer.write(rows(4, 5)), ())
        assert sorted(table.read()["id"].to_pylist()) == [4, 5]

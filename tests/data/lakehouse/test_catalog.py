"""Tables by name: made as declared, widened, everything else refused; many processes at once."""

import pickle
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

import rayplat as rp
from rayplat.core.errors import NotFoundError, UnavailableError, UserError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from tests.data.worlds import departures

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("value", pa.float64())])


def test_a_declared_table_has_the_declared_types(lake: Lakehouse) -> None:
    schema = lake.ensure(departures()).schema()
    assert schema == pa.schema(
        [
            pa.field("flight_id", pa.string(), nullable=False),
            pa.field("scheduled_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("distance", pa.int64(), nullable=False),
            pa.field("delay", pa.float64()),
            pa.field("cancelled", pa.bool_()),
            pa.field("_partition", pa.int32(), nullable=False),
            pa.field("_offset", pa.int64(), nullable=False),
        ]
    )
    assert lake.table("raw.departures").native().schema().find_field("distance").doc == "[mi]"


def test_only_tables_from_kafka_have_system_columns(lake: Lakehouse) -> None:
    project = rp.Project("p", owner="a@example.com")
    table = project.table("raw.planes", columns={"tailnum": "string"}, key="tailnum")
    assert lake.ensure(table).schema().names == ["tailnum"]


def test_ensuring_again_changes_nothing(lake: Lakehouse) -> None:
    first = lake.ensure_schema("raw.a", SCHEMA).native().metadata_location
    assert lake.ensure_schema("raw.a", SCHEMA).native().metadata_location == first


def test_a_new_column_is_added_and_old_rows_have_null(lake: Lakehouse) -> None:
    table = lake.ensure_schema("raw.a", SCHEMA)
    old = table.append(pa.table({"id": [1], "value": [1.0]}))
    wider = lake.ensure_schema("raw.a", SCHEMA.append(pa.field("more", pa.string())))
    wider.append(pa.table({"id": [2], "value": [None], "more": ["x"]}, schema=wider.schema()))
    rows = sorted(wider.read().to_pylist(), key=lambda row: row["id"])
    assert [row["more"] for row in rows] == [None, "x"]
    assert wider.read(snapshot_id=old).column_names == ["id", "value"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (SCHEMA.remove(1), "value is in the table and no longer declared"),
        (SCHEMA.set(1, pa.field("value", pa.int64())), "value is double and declared int64"),
        (SCHEMA.set(0, pa.field("id", pa.int64())), "id is not nullable and declared nullable"),
        (SCHEMA.append(pa.field("new", pa.int64(), nullable=False)), "new is new and may not be null"),
    ],
)
def test_other_changes_are_refused_with_the_reason(lake: Lakehouse, changed: pa.Schema, reason: str) -> None:
    lake.ensure_schema("raw.a", SCHEMA)
    with pytest.raises(UserError, match=reason):
        lake.ensure_schema("raw.a", changed)
    assert lake.table("raw.a").schema() == SCHEMA


def test_names(lake: Lakehouse) -> None:
    lake.ensure_schema("raw.b", SCHEMA)
    lake.ensure_schema("training.a", SCHEMA)
    assert lake.names() == ["raw.b", "training.a"]
    assert lake.exists("raw.b")
    assert not lake.exists("raw.a")
    with pytest.raises(NotFoundError, match=r"raw\.b, training\.a"):
        lake.table("raw.a")


@pytest.mark.parametrize("name", ["departures", "a.b.c", ".a", "a."])
def test_a_wrong_name_is_told(lake: Lakehouse, name: str) -> None:
    with pytest.raises(UserError, match="is not a table name"):
        lake.ensure_schema(name, SCHEMA)


def test_a_type_that_is_not_kept_is_told(lake: Lakehouse) -> None:
    with pytest.raises(UserError, match="has the Arrow type"):
        lake.ensure_schema("raw.a", pa.schema([("x", pa.month_day_nano_interval())]))


def test_a_lakehouse_pickles_as_its_settings(lake: Lakehouse) -> None:
    lake.ensure_schema("raw.a", SCHEMA)
    copy = pickle.loads(pickle.dumps(lake))
    assert copy.names() == ["raw.a"]
    copy.close()


def test_the_database_is_in_write_ahead_mode_and_shared(lake: Lakehouse, settings: Settings) -> None:
    lake.ensure_schema("raw.a", SCHEMA)
    with sqlite3.connect(settings.home / "rayplat.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        database.execute("CREATE TABLE beside (x INTEGER)")
    database.close()
    assert lake.names() == ["raw.a"]


def test_a_wrong_database_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no database address"):
        Lakehouse(Settings(home=tmp_path, database="nonsense")).names()
    address = "postgresql://user:secret@127.0.0.1:1/none"
    with pytest.raises(UnavailableError) as raised:
        Lakehouse(Settings(home=tmp_path, database=address)).names()
    assert "secret" not in str(raised.value)


def test_many_processes_append_to_one_table(lake: Lakehouse, settings: Settings, tmp_path: Path) -> None:
    """Each also opens the new database and makes the table: no race, no lock, no lost append."""
    script = tmp_path / "writer.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from pathlib import Path
            import pyarrow as pa
            from rayplat.core.settings import Settings
            from rayplat.data.lakehouse.catalog import Lakehouse
            lake = Lakehouse(Settings(home=Path(sys.argv[1])))
            schema = pa.schema([pa.field("writer", pa.int64()), pa.field("n", pa.int64())])
            table = lake.ensure_schema("raw.many", schema)
            for n in range(6):
                table.append(pa.table({"writer": [int(sys.argv[2])], "n": [n]}))
            """
        )
    )
    argv = [sys.executable, "-W", "error", str(script), str(settings.home)]
    writers = [subprocess.Popen([*argv, str(n)], stderr=subprocess.PIPE) for n in range(5)]
    errors = [writer.communicate(timeout=120)[1].decode() for writer in writers]
    assert errors == [""] * 5
    table = lake.table("raw.many")
    rows = sorted((row["writer"], row["n"]) for row in table.read().to_pylist())
    assert rows == [(writer, n) for writer in range(5) for n in range(6)]
    assert len(table.history()) == 30

"""Sources besides Kafka, through the whole ingest: rows, bad rows, and nothing twice."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import rayplat as rp
from rayplat.core.events import EventBus
from rayplat.core.project.table import Table
from rayplat.core.settings import FilesSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.ingest import ingest_once
from rayplat.data.streaming.report import IngestReport

TABLE = "raw.things"


def things(source: Any, **more: Any) -> Table:
    project = rp.Project("things", owner="ops@example.com")
    columns = {"id": "string", "n": rp.Column("int64", nullable=False)}
    return project.table(
        TABLE, columns=columns, key="id", source=source, checks=[rp.in_range("n", 0, 99)], **more
    )


def ingest(lake: Lakehouse, table: Table, settings: Settings) -> IngestReport:
    return ingest_once(lake, table, settings, EventBus(), executor=InlineExecutor())


def rows(lake: Lakehouse) -> list[tuple[str, int]]:
    return sorted((row["id"], row["n"]) for row in lake.table(TABLE).read(["id", "n"]).to_pylist())


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_files(lake: Lakehouse, settings: Settings, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "arriving"
    folder.mkdir()
    ready = settings.model_copy(update={"files": FilesSettings(settle_s=0)})
    table = things(rp.Files(str(folder), format=kind))

    def arrive(name: str, *given: tuple[str, Any]) -> None:
        lines = [json.dumps({"id": i, "n": n}) for i, n in given] if kind == "ndjson" else ["id,n"]
        lines += [f"{i},{n}" for i, n in given] if kind == "csv" else []
        (folder / f"{name}.{kind}").write_text("\n".join(lines) + "\n")

    arrive("one", ("a", 1), ("b", "many"), ("c", 500))
    report = ingest(lake, table, ready)
    assert (report.rows, report.dead, report.quarantined) == (1, 1, 1)
    assert ingest(lake, table, ready).snapshots == ()
    arrive("two", ("d", 4))
    assert ingest(lake, table, ready).rows == 1
    assert rows(lake) == [("a", 1), ("d", 4)]
    dead = lake.table("dead.raw_things").read().to_pylist()
    assert b"many" in dead[0]["raw"]


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_database(lake: Lakehouse, settings: Settings, tmp_path: Path, mode: str) -> None:
    url = f"sqlite:///{tmp_path}/source.db"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("create table t (id text, n integer, version integer)"))
        connection.execute(sa.text("insert into t values ('a', 1, 1), ('b', 2, 2), ('c', 500, 3)"))
    table = things(rp.Database(url, "t", "version", settle=timedelta(0)), mode=mode)
    report = ingest(lake, table, settings)
    assert (report.rows, report.quarantined) == (2, 1)
    assert ingest(lake, table, settings).snapshots == ()
    with engine.begin() as connection:
        connection.execute(sa.text("update t set n = 9, version = 4 where id = 'a'"))
    engine.dispose()
    assert ingest(lake, table, settings).rows == 1
    assert rows(lake) == ([("a", 9), ("b", 2)] if mode == "upsert" else [("a", 1), ("a", 9), ("b", 2)])
    aside = lake.table("quarantine.raw_things").read().to_pylist()
    assert [(row["partition"], int(row["offset"]) >> 40) for row in aside] == [("0", 3)]
    last = lake.table(TABLE).history()[-1].properties
    assert (last["rayplat.received"], last["rayplat.accepted"]) == ("1", "1")

"""Small tables for maintenance: rows with an id each, so that a lost or doubled one is seen."""

import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.integrity import verify_table
from rayplat.data.lakehouse.table import LakeTable

NAME = "raw.a"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("part", pa.string()),
        pa.field("at", pa.timestamp("us", tz="UTC")),
    ]
)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def rows(*ids: int, part: str = "x") -> pa.Table:
    at = [BEGIN + timedelta(hours=i) for i in ids]
    return pa.table({"id": list(ids), "part": [part] * len(ids), "at": at}, schema=SCHEMA)


def made(lake: Lakehouse) -> LakeTable:
    return lake.ensure_schema(NAME, SCHEMA)


def filled(lake: Lakehouse, commits: int, each: int = 10) -> LakeTable:
    table = made(lake)
    for number in range(commits):
        table.append(rows(*range(number * each, (number + 1) * each)))
    return table


def ids(table: LakeTable, snapshot_id: int | None = None) -> list[int]:
    found: list[int] = sorted(table.read(["id"], snapshot_id=snapshot_id)["id"].to_pylist())
    return found


def assert_whole(table: LakeTable) -> None:
    """Every file of every snapshot that can be read is there, and is what was written; some are read."""
    report = verify_table(table.base(), every=True)
    assert report.damaged == ()
    live = [one.snapshot_id for one in table.history() if one.live]
    for snapshot_id in {*live[:1], *live[-1:], *random.sample(live, min(4, len(live)))}:
        table.read(["id"], snapshot_id=snapshot_id)

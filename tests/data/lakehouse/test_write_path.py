"""The write path: what many commits leave behind, read by pyiceberg as a stranger."""

import hashlib
import random
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from rayplat.core.errors import ConflictError, NotFoundError, UserError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.lakehouse.files import digest_of
from rayplat.data.lakehouse.table import LakeTable

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids), "name": [str(i) for i in ids]}, schema=SCHEMA)


@pytest.fixture
def table(lake: Lakehouse) -> LakeTable:
    return lake.ensure_schema("raw.a", SCHEMA)


def stranger(settings: Settings) -> pa.Table:
    catalog = SqlCatalog("rayplat", uri=settings.database, warehouse=settings.warehouse)
    try:
        return catalog.load_table("raw.a").scan().to_arrow()
    finally:
        catalog.engine.dispose()


def ids(data: pa.Table) -> list[int]:
    return sorted(data["id"].to_pylist())


def test_many_commits_keep_metadata_small_and_lose_nothing(
    lake: Lakehouse, table: LakeTable, settings: Settings
) -> None:
    committer = FencedCommitter(lake, table.name, "kafka:a")
    other = FencedCommitter(lake, table.name, "kafka:b")
    other.commit([], {}, {"0": 7})
    snapshots = []
    for number in range(420):
        expected = {"0": number} if number else {}
        files = table.write_files(rows(number))
        snapshots.append(committer.commit(files, expected, {"0": number + 1}))
    head = table.head()
    assert len(head.snapshots) <= 200
    manifests = table.base().manifests().of(head.snapshot(head.current_id)["manifest-list"])
    assert len(manifests) <= 48
    assert ids(stranger(settings)) == ids(table.read()) == list(range(420))
    assert len(table.history()) == 421
    assert [s.offsets["0"] for s in table.history()[1:]] == list(range(1, 421))
    # The only word of the other source is hundreds of commits old, and still counts.
    assert other.committed() == {"0": 7}
    # A snapshot that was crowded out of the metadata is read as before.
    assert head.snapshot(snapshots[9]) is None
    assert ids(table.read(snapshot_id=snapshots[9])) == list(range(10))
    assert table.count(snapshots[9]) == 10


def test_an_expired_snapshot_says_so(lake: Lakehouse, table: LakeTable) -> None:
    first = table.append(rows(1))
    for number in range(230):
        table.append(rows(number))
    table.archive.expire(table.head().uuid, [first])
    with pytest.raises(NotFoundError, match="has expired"):
        table.read(snapshot_id=first)
    assert [s.live for s in table.history()[:2]] == [False, True]


def test_the_name_of_every_file_holds_its_digest(table: LakeTable) -> None:
    table.append(rows(1, 2))
    named = [Path(p.removeprefix("file://")) for p in table.paths()]
    folder = Path(table.location().removeprefix("file://")) / "metadata"
    named += folder.glob("*.avro")
    assert len(named) == 3
    for path in named:
        assert digest_of(str(path)) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_are_taken_out_and_put_in_in_one_snapshot(table: LakeTable, settings: Settings) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    choose = random.Random(seed)
    kept = set(range(40))
    for number in kept:
        table.append(rows(number))
    for _ in range(12):
        gone = choose.sample(sorted(table.paths()), 3)
        before = ids(table.read())
        taken = ids(pa.concat_tables([_file(path) for path in gone]))
        table.replace(table.write_files(rows(*taken)), gone, operation="replace")
        assert ids(table.read()) == before
    assert table.history()[-1].operation == "replace"
    table.replace((), table.paths(), operation="delete")
    assert (table.count(), table.paths(), table.read().num_rows) == (0, set(), 0)
    assert stranger(settings).num_rows == 0


def _file(path: str) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path.removeprefix("file://"))


def test_a_file_is_taken_out_once(table: LakeTable) -> None:
    table.append(rows(1))
    table.append(rows(2))
    paths = table.paths()
    table.replace((), paths)
    with pytest.raises(ConflictError, match="replaced by another writer"):
        table.replace((), paths)


def test_a_change_of_rows_is_refused_when_the_table_has_moved_on(table: LakeTable) -> None:
    planned_on = table.append(rows(1))
    paths = table.paths()
    table.append(rows(2))
    with pytest.raises(ConflictError, match="meanwhile"):
        table.replace(table.write_files(rows(3)), paths, based_on=planned_on)
    # Packing files changes no row: it goes on beside appends.
    table.replace(table.write_files(rows(1)), paths, based_on=planned_on, operation="replace")
    assert ids(table.read()) == [1, 2]


def test_rows_that_do_not_fit_are_refused_before_anything_is_written(table: LakeTable) -> None:
    with pytest.raises(UserError, match="1 nulls in 'id'"):
        table.append(pa.table({"id": pa.array([None], pa.int64()), "name": ["x"]}))
    with pytest.raises(UserError, match="lack"):
        table.append(pa.table({"id": [1]}))
    assert table.snapshot_id() is None


def test_an_overwrite_replaces_everything(table: LakeTable, settings: Settings) -> None:
    table.append(rows(1, 2))
    first = table.snapshot_id()
    table.append(rows(3))
    table.overwrite(rows(9))
    assert ids(table.read()) == ids(stranger(settings)) == [9]
    assert ids(table.read(snapshot_id=first)) == [1, 2]
    assert table.count() == 1

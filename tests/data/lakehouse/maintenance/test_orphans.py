"""Orphans: leftovers are found and deleted; what a table names, or may name soon, is not."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rayplat.core.errors import IntegrityError, UserError
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.maintenance.orphans import find_orphans
from rayplat.data.lakehouse.table import LakeTable
from tests.data.lakehouse.maintenance.worlds import assert_whole, filled, ids, rows

DAY = timedelta(days=1)
LATER = datetime.now(UTC) + timedelta(days=30)


def left(table: LakeTable, name: str, age: timedelta) -> Path:
    path = Path(table.location().removeprefix("file://")) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left over")
    stamp = time.time() - age.total_seconds()
    os.utime(path, (stamp, stamp))
    return path


def test_old_leftovers_are_found_shown_and_deleted(lake: Lakehouse) -> None:
    table = filled(lake, 3)
    old = [left(table, name, 4 * DAY) for name in ("data/a.parquet", "data/p=1/b.parquet", "metadata/m.avro")]
    young = left(table, "data/young.parquet", DAY)
    elsewhere = left(table, "notes.txt", 40 * DAY)
    shown = find_orphans(table)
    assert [one.path for one in shown.orphans] == sorted(str(path) for path in old)
    assert (shown.deleted, shown.young, shown.size) == (False, 1, 27)
    assert all(path.exists() for path in old)
    done = find_orphans(table, delete=True)
    assert done.orphans == shown.orphans
    assert not any(path.exists() for path in old)
    assert young.exists()
    assert elsewhere.exists()
    assert find_orphans(table, delete=True).orphans == ()
    assert_whole(table)


def test_a_file_that_is_committed_in_time_is_none(lake: Lakehouse) -> None:
    table = filled(lake, 3)
    files = table.write_files(rows(99))
    assert [one.path for one in find_orphans(table, now=LATER).orphans] == [
        file.path.removeprefix("file://") for file in files
    ]
    table.replace(files, ())
    assert find_orphans(table, now=LATER, delete=True).orphans == ()
    assert ids(table) == [*range(30), 99]


def test_nothing_that_is_listed_or_archived_is_one(lake: Lakehouse) -> None:
    table = filled(lake, 220, each=1)
    archived = table.history()[0].snapshot_id
    assert table.head().snapshot(archived) is None
    found = find_orphans(table, now=LATER, delete=True).orphans
    # A commit that merges manifests leaves those that it has merged before it was done.
    assert all(one.path.endswith(".avro") for one in found)
    assert_whole(table)
    assert ids(table, archived) == [0]
    assert ids(table) == list(range(220))


def test_what_is_not_known_is_not_deleted(lake: Lakehouse) -> None:
    table = filled(lake, 2)
    old = left(table, "data/a.parquet", 9 * DAY)
    folder = Path(table.location().removeprefix("file://")) / "metadata"
    next(iter(sorted(folder.glob("*.avro")))).write_bytes(b"junk")
    with pytest.raises(IntegrityError):
        find_orphans(table, delete=True)
    assert old.exists()


def test_the_files_of_running_commits_are_out_of_reach(lake: Lakehouse) -> None:
    with pytest.raises(UserError, match="under way"):
        find_orphans(filled(lake, 1), older_than=timedelta(seconds=5), delete=True)

"""Compaction: the same rows in fewer files, whatever others do meanwhile."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from rayplat.core.errors import BugError, ConflictError, IntegrityError, UserError
from rayplat.core.project.table import zorder
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.maintenance.compact import Compaction, inline
from rayplat.data.lakehouse.maintenance.plan import Bin, Packing
from rayplat.data.lakehouse.maintenance.rewrite import Content, Rewrite, Rewritten, content_of
from rayplat.data.lakehouse.table import LakeTable
from tests.data.lakehouse.maintenance.worlds import SCHEMA, assert_whole, filled, ids, made, rows

SMALL = Packing(min_files=2)


def data_files(table: LakeTable) -> list[Path]:
    folder = Path(table.location().removeprefix("file://")) / "data"
    return sorted(folder.rglob("*.parquet"))


def test_many_files_become_one_and_the_rows_stay(lake: Lakehouse) -> None:
    table = filled(lake, 8)
    before, old = table.snapshot_id(), table.paths()
    report = Compaction(table, SMALL).compact()
    (one,) = report.partitions
    assert (one.files_before, one.files_after, one.rows, one.problem) == (8, 1, 80, "")
    assert one.snapshot_id == table.snapshot_id() != before
    assert len(table.paths()) == 1
    assert not table.paths() & old
    assert ids(table) == list(range(80))
    assert ids(table, before) == list(range(80)), "the snapshot before can still be read"
    last = table.history()[-1]
    assert (last.operation, last.rows_total) == ("replace", 80)
    assert last.properties["rayplat.maintenance"] == "compact"
    assert_whole(table)
    assert Compaction(table, SMALL).compact().partitions == (), "there is nothing left to pack"


def test_a_dry_run_changes_nothing(lake: Lakehouse) -> None:
    table = filled(lake, 6)
    before, files = table.snapshot_id(), data_files(table)
    report = Compaction(table, SMALL).plan()
    (one,) = report.partitions
    assert report.dry_run
    assert (one.files_before, one.files_after, one.rows, one.snapshot_id) == (6, 1, 60, None)
    assert one.bytes_before == sum(path.stat().st_size for path in files)
    assert (table.snapshot_id(), data_files(table)) == (before, files)


def test_bins_bound_what_is_in_memory(lake: Lakehouse) -> None:
    table = filled(lake, 12)
    size = data_files(table)[0].stat().st_size
    Compaction(table, Packing(int(size * 4.5), 2)).compact()
    assert len(table.paths()) == 3
    assert ids(table) == list(range(120))


def test_rows_are_clustered_where_it_is_declared(lake: Lakehouse) -> None:
    table = made(lake)
    for first in range(4):
        table.append(rows(*range(first, 400, 4)))
    Compaction(table, SMALL, zorder("id")).compact()
    assert table.read(["id"])["id"].to_pylist() == list(range(400))
    with pytest.raises(UserError, match="no column 'nothing'"):
        Compaction(table, SMALL, zorder("nothing")).plan()


def test_columns_that_came_later_are_filled(lake: Lakehouse) -> None:
    table = filled(lake, 3)
    wide = SCHEMA.append(pa.field("more", pa.float64()))
    table = lake.ensure_schema(table.name, wide)
    table.append(rows(99).append_column("more", pa.array([1.5])))
    before = table.read().sort_by("id")
    Compaction(table, SMALL).compact()
    assert len(table.paths()) == 1
    assert table.read().sort_by("id").equals(before)


class Disturbed:
    """Something happens to the table while bins are being rewritten, so many times."""

    def __init__(self, deed: Callable[[], object], times: int) -> None:
        self._deed, self._times = deed, times

    def __call__(self, work: Callable[[Bin], Rewritten], bins: Sequence[Bin]) -> Iterable[Rewritten]:
        done = list(inline(work, bins))
        if self._times:
            self._times -= 1
            self._deed()
        return done


def test_what_others_append_meanwhile_stays(lake: Lakehouse) -> None:
    table = filled(lake, 5)
    run = Disturbed(lambda: table.append(rows(1000)), 1)
    (one,) = Compaction(table, SMALL, run=run).compact().partitions
    assert (one.files_before, one.problem) == (5, "")
    assert ids(table) == [*range(50), 1000]
    assert len(table.paths()) == 2


def test_what_others_delete_meanwhile_does_not_come_back(lake: Lakehouse) -> None:
    table = filled(lake, 5)

    def delete() -> None:
        gone = sorted(table.paths())[0]
        table.replace(table.write_files(rows(2000)), [gone], operation="overwrite")

    (one,) = Compaction(table, SMALL, run=Disturbed(delete, 1)).compact().partitions
    assert one.problem == ""
    found = ids(table)
    assert len(found) == 41
    assert found[-1] == 2000
    assert len(table.paths()) == 1
    assert len(data_files(table)) == 5 + 1 + 1, "the files of the lost try were thrown away"
    assert_whole(table)


def test_an_overwrite_meanwhile_leaves_nothing_to_do(lake: Lakehouse) -> None:
    table = filled(lake, 5)
    run = Disturbed(lambda: table.overwrite(rows(7)), 1)
    (one,) = Compaction(table, SMALL, run=run).compact().partitions
    assert (one.snapshot_id, one.problem) == (None, "")
    assert ids(table) == [7]


def test_whoever_loses_every_time_says_so(lake: Lakehouse) -> None:
    table = filled(lake, 3)

    def again() -> None:
        table.overwrite(rows(1))
        table.append(rows(2))

    report = Compaction(table, SMALL, run=Disturbed(again, 99)).compact()
    assert "replaced by another writer" in report.partitions[0].problem
    with pytest.raises(ConflictError, match=r"1 partitions of raw\.a were not packed"):
        report.check()
    assert ids(table) == [1, 2]


def test_a_flipped_bit_gets_no_new_digest(lake: Lakehouse) -> None:
    table = filled(lake, 4)
    before = table.snapshot_id()
    path = data_files(table)[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="is damaged"):
        Compaction(table, SMALL).compact()
    assert table.snapshot_id() == before


class Forgetful(Rewrite):
    """Loses a row."""

    def _write(self, data: pa.Table) -> list:
        return super()._write(data.slice(1))


def test_rows_that_would_change_are_not_committed(lake: Lakehouse) -> None:
    table = filled(lake, 4)
    before = table.snapshot_id()

    def forgetful(work: Callable[[Bin], Rewritten], bins: Sequence[Bin]) -> Iterable[Rewritten]:
        assert isinstance(work, Rewrite)
        return inline(Forgetful(work.writer, work.metadata, work.io), bins)

    with pytest.raises(BugError, match="changed the rows"):
        Compaction(table, SMALL, run=forgetful).compact()
    assert table.snapshot_id() == before


def test_the_content_of_rows_does_not_depend_on_their_order() -> None:
    data = rows(*range(100))
    assert content_of(data) == content_of(data.take(list(reversed(range(100)))))
    assert content_of(data) != content_of(rows(*range(1, 101)))
    assert content_of(data) != content_of(data.set_column(1, "part", pa.array([None] * 100, pa.string())))
    assert content_of(rows()) == Content(0, (0, 0))
    assert content_of(rows(1, 1)) != content_of(rows(2, 2)), "a pair does not cancel itself"

"""Time travel: ids, times, tags and branches name snapshots; what is not there is told with what is near."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from pyiceberg.table import Table as NativeTable

from rayplat.core.errors import NotFoundError, UserError
from rayplat.data.lakehouse import travel
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.snapshot import SnapshotInfo
from rayplat.data.lakehouse.table import LakeTable

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False)])


@pytest.fixture
def table(lake: Lakehouse) -> LakeTable:
    return lake.ensure_schema("raw.a", SCHEMA)


def append(table: LakeTable, value: int) -> int:
    return table.append(pa.table({"id": [value]}, schema=SCHEMA))


def info(number: int, at: datetime, *, live: bool = True) -> SnapshotInfo:
    return SnapshotInfo(number, at, "append", 1, number, "", {}, {}, live)


def test_nothing_named_is_the_current_one(table: LakeTable) -> None:
    assert travel.resolve(table.native(), None) is None
    append(table, 1)
    second = append(table, 2)
    assert travel.resolve(table.native(), None) == second
    assert travel.resolve(table.native(), "main") == second


def test_an_id_is_itself_and_an_unknown_one_tells_the_newest(table: LakeTable) -> None:
    first, second = append(table, 1), append(table, 2)
    assert travel.resolve(table.native(), first) == first
    with pytest.raises(NotFoundError, match=f"no snapshot 5\n.*{first}.*{second}"):
        travel.resolve(table.native(), 5)


def test_a_time_is_the_newest_snapshot_at_or_before_it(table: LakeTable) -> None:
    ids = [append(table, i) for i in range(3)]
    times = [s.at for s in table.history()]
    native = table.native()
    for number, at in enumerate(times):
        assert travel.resolve(native, at) == ids[number], "the very millisecond"
        if number:
            assert travel.resolve(native, at - timedelta(milliseconds=1)) == ids[number - 1]
    assert travel.resolve(native, datetime.now(UTC) + timedelta(days=1)) == ids[-1]


def test_a_time_before_the_first_tells_the_nearest(table: LakeTable) -> None:
    first = append(table, 1)
    with pytest.raises(NotFoundError, match=f"had no snapshot at 2000-01-01T.*\n.*{first}"):
        travel.resolve(table.native(), datetime(2000, 1, 1, tzinfo=UTC))


def test_a_time_that_only_the_history_knows(table: LakeTable) -> None:
    append(table, 1)
    day = datetime(2000, 1, 1, tzinfo=UTC)
    past = [info(1, day), info(2, day + timedelta(days=1), live=False), info(3, day + timedelta(days=2))]
    native = table.native()
    assert travel.resolve(native, day + timedelta(hours=1), lambda: past) == 1
    with pytest.raises(NotFoundError, match=r"snapshot 2 .* has expired.*\n.*nearest.*: 1 .*, 3 "):
        travel.resolve(native, day + timedelta(days=1, hours=1), lambda: past)
    with pytest.raises(NotFoundError, match=r"snapshot 2 .* has expired"):
        travel.resolve(native, 2, lambda: past)
    assert travel.resolve(native, 3, lambda: past) == 3


def test_of_two_snapshots_of_one_millisecond_the_later_one(table: LakeTable) -> None:
    append(table, 1)
    day = datetime(2000, 1, 1, tzinfo=UTC)
    assert travel.resolve(table.native(), day, lambda: [info(1, day), info(2, day)]) == 2


@pytest.mark.parametrize("wrong", [datetime(2020, 1, 1), True, 1.5])  # noqa: DTZ001  # that is the point
def test_what_names_nothing_is_told(table: LakeTable, wrong: object) -> None:
    append(table, 1)
    with pytest.raises(UserError, match=r"zone|names no snapshot"):
        travel.resolve(table.native(), wrong)  # type: ignore[arg-type]


def test_a_tag_stays_and_is_dropped(table: LakeTable) -> None:
    first = append(table, 1)
    made = travel.tag(table.native, "train-2020.1", first)
    assert made == travel.Reference("train-2020.1", "tag", first)
    second = append(table, 2)
    assert travel.resolve(table.native(), "train-2020.1") == first
    assert travel.tag(table.native, "train-2020.1", first) == made, "again is well"
    with pytest.raises(UserError, match=f"has a tag 'train-2020.1' at snapshot {first}"):
        travel.tag(table.native, "train-2020.1", second)
    assert [r.name for r in travel.references(table.native())] == ["main", "train-2020.1"]
    travel.drop(table.native, "train-2020.1")
    with pytest.raises(NotFoundError, match=r"no tag or branch 'train-2020.1'\n.*main \(branch\)"):
        travel.resolve(table.native(), "train-2020.1")


def test_a_branch_begins_at_the_current_snapshot(table: LakeTable) -> None:
    first = append(table, 1)
    assert travel.branch(table.native, "dev") == travel.Reference("dev", "branch", first)
    append(table, 2)
    assert travel.resolve(table.native(), "dev") == first
    assert travel.drop(table.native, "dev").kind == "branch"


@pytest.mark.parametrize("name", ["", "1a", "a b", "a/b", "x" * 129])
def test_wrong_names_are_told(table: LakeTable, name: str) -> None:
    append(table, 1)
    with pytest.raises(UserError, match="cannot be the name of a tag"):
        travel.tag(table.native, name)
    assert [r.name for r in travel.references(table.native())] == ["main"]


def test_what_cannot_be_tagged_or_dropped(table: LakeTable) -> None:
    with pytest.raises(NotFoundError, match="no snapshot yet"):
        travel.tag(table.native, "early")
    append(table, 1)
    with pytest.raises(NotFoundError, match="does not hold snapshot 5"):
        travel.tag(table.native, "lost", 5)
    with pytest.raises(UserError, match="'main' is the table itself"):
        travel.drop(table.native, "main")
    with pytest.raises(NotFoundError, match="no tag or branch 'gone'"):
        travel.drop(table.native, "gone")


def test_commits_that_come_between_do_not_disturb(table: LakeTable) -> None:
    first = append(table, 1)
    loads = []

    def load() -> NativeTable:
        native = table.native()
        if not loads:
            append(table, 2)
            travel.tag(table.native, "steady", first)
        loads.append(native)
        return native

    assert travel.tag(load, "steady", first).snapshot_id == first
    assert len(loads) == 2, "the first attempt met the other one's tag, and the second one found it"
    assert travel.resolve(table.native(), "steady") == first
    assert table.count() == 2

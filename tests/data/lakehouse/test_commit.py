"""The fenced committer: offsets move once, a zombie is refused, a lost acknowledgement is recognised."""

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pytest

from rayplat.core.errors import ConflictError, IntegrityError, UnavailableError
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import Attempt, FencedCommitter
from rayplat.data.lakehouse.files import DataFile
from rayplat.data.lakehouse.snapshot import Base, SnapshotAttempt

SCHEMA = pa.schema([pa.field("id", pa.int64())])


def committer(lake: Lakehouse, source: str = "kafka:a") -> FencedCommitter:
    lake.ensure_schema("raw.a", SCHEMA)
    return FencedCommitter(lake, "raw.a", source)


def file(fenced: FencedCommitter, *ids: int) -> DataFile:
    return fenced.table.write_files(pa.table({"id": list(ids)}))[0]


class FaultyAttempt(SnapshotAttempt):
    """Loses the acknowledgement of a commit that landed, or fails before it lands."""

    lands: bool
    plan: list[str]

    def commit(self) -> int:
        step = self.plan.pop(0) if self.plan else "ok"
        if step == "fail":
            raise OSError("the connection was reset before the commit")
        snapshot_id = super().commit()
        if step == "lose":
            raise OSError("the connection was reset after the commit")
        return snapshot_id


def faulty(*plan: str) -> Attempt:
    steps = list(plan)

    def make(
        base: Base, files: Sequence[DataFile], properties: Mapping[str, str], *, removed: Collection[str] = ()
    ) -> SnapshotAttempt:
        attempt = FaultyAttempt(base, files, properties, removed=removed)
        attempt.plan = steps
        return attempt

    return make


def ids(lake: Lakehouse) -> list[int]:
    return sorted(lake.table("raw.a").read()["id"].to_pylist())


def test_offsets_are_those_of_the_last_commit(lake: Lakehouse) -> None:
    fenced = committer(lake)
    assert fenced.committed() == {}
    fenced.commit([file(fenced, 1)], {}, {"0": 10, "1": 4})
    fenced.commit([file(fenced, 2)], {"0": 10, "1": 4}, {"1": 6})
    assert fenced.committed() == {"0": 10, "1": 6}
    assert ids(lake) == [1, 2]
    last = fenced.table.history()[-1]
    assert (last.source, last.offsets) == ("kafka:a", {"0": 10, "1": 6})


def test_a_commit_without_files_moves_the_offsets(lake: Lakehouse) -> None:
    fenced = committer(lake)
    fenced.commit([], {}, {"0": 3})
    assert fenced.committed() == {"0": 3}
    assert fenced.table.count() == 0


def test_offsets_are_found_behind_other_writers_and_other_sources(lake: Lakehouse) -> None:
    fenced, other = committer(lake), committer(lake, "kafka:b")
    fenced.commit([], {}, {"0": 3})
    other.commit([], {}, {"0": 99})
    fenced.table.append(pa.table({"id": [5]}))
    assert fenced.committed() == {"0": 3}
    assert other.committed() == {"0": 99}
    fenced.commit([], {"0": 3}, {"0": 4})
    assert fenced.committed() == {"0": 4}


def test_a_zombie_is_refused_and_nothing_is_doubled(lake: Lakehouse) -> None:
    zombie, driver = committer(lake), committer(lake)
    stale = file(zombie, 1)
    driver.commit([file(driver, 1)], {}, {"0": 1})
    with pytest.raises(ConflictError, match="built on"):
        zombie.commit([stale], {}, {"0": 1})
    assert ids(lake) == [1]


def test_a_zombie_is_refused_in_the_middle_of_its_commit(lake: Lakehouse) -> None:
    """It passed the fence, then another driver commits, then it goes on."""
    driver = committer(lake)

    def overtaken(
        base: Base, files: Sequence[DataFile], properties: Mapping[str, str], *, removed: Collection[str] = ()
    ) -> SnapshotAttempt:
        attempt = SnapshotAttempt(base, files, properties, removed=removed)
        if driver.committed() == {}:
            driver.commit([file(driver, 1)], {}, {"0": 1})
        return attempt

    zombie = FencedCommitter(lake, "raw.a", "kafka:a", attempt=overtaken)
    with pytest.raises(ConflictError, match="built on"):
        zombie.commit([file(zombie, 1)], {}, {"0": 1})
    assert ids(lake) == [1]


def test_a_writer_without_offsets_in_between_is_no_zombie(lake: Lakehouse) -> None:
    committer(lake)
    table = lake.table("raw.a")
    calls = []

    def disturbed(
        base: Base, files: Sequence[DataFile], properties: Mapping[str, str], *, removed: Collection[str] = ()
    ) -> SnapshotAttempt:
        attempt = SnapshotAttempt(base, files, properties, removed=removed)
        if len(calls) < 2:
            table.append(pa.table({"id": [100 + len(calls)]}))
        calls.append(1)
        return attempt

    fenced = FencedCommitter(lake, "raw.a", "kafka:a", attempt=disturbed)
    fenced.commit([file(fenced, 1)], {}, {"0": 1})
    assert ids(lake) == [1, 100, 101]
    assert len(calls) == 3


@pytest.mark.parametrize("plan", [("lose",), ("fail",), ("fail", "lose"), ("fail", "fail", "fail")])
def test_an_unknown_outcome_is_looked_up(lake: Lakehouse, plan: tuple[str, ...]) -> None:
    committer(lake)
    fenced = FencedCommitter(lake, "raw.a", "kafka:a", attempt=faulty(*plan))
    snapshot_id = fenced.commit([file(fenced, 1)], {}, {"0": 1})
    assert ids(lake) == [1]
    assert fenced.table.snapshot_id() == snapshot_id
    assert fenced.committed() == {"0": 1}


def test_a_catalog_that_stays_away_is_told(lake: Lakehouse) -> None:
    committer(lake)
    fenced = FencedCommitter(lake, "raw.a", "kafka:a", attempt=faulty(*["fail"] * 9))
    with pytest.raises(UnavailableError, match="did not acknowledge"):
        fenced.commit([file(fenced, 1)], {}, {"0": 1})
    assert fenced.committed() == {}


def test_offsets_that_cannot_be_read_are_no_offsets(lake: Lakehouse) -> None:
    fenced = committer(lake)
    fenced.table.append(
        pa.table({"id": [1]}), {"rayplat.source": "kafka:a", "rayplat.offsets": "from the start"}
    )
    with pytest.raises(IntegrityError, match="from the start"):
        fenced.committed()

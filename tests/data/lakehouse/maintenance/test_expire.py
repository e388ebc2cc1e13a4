"""Expiry: what has had its time goes with its files; what anybody needs stays, and history stays whole."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rayplat.core.errors import ConflictError, IntegrityError, NotFoundError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.lakehouse.maintenance.compact import Compaction
from rayplat.data.lakehouse.maintenance.expire import Expiry
from rayplat.data.lakehouse.maintenance.orphans import find_orphans
from rayplat.data.lakehouse.maintenance.plan import Lifetime, Packing
from rayplat.data.lakehouse.pins import Pins
from rayplat.data.lakehouse.table import LakeTable
from tests.data.lakehouse.maintenance.worlds import assert_whole, filled, ids, rows

ALL = Lifetime(timedelta(0), keep_last=1, grace=timedelta(0))
LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def pins(settings: Settings) -> Pins:
    return Pins(settings)


def on_disk(table: LakeTable, folder: str) -> set[str]:
    place = Path(table.location().removeprefix("file://")) / folder
    return {str(path) for path in place.rglob("*") if path.is_file()}


def test_only_what_nothing_else_names_is_deleted(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 5)
    Compaction(table, Packing(min_files=2)).compact()
    last = table.append(rows(99))
    history = table.history()
    plan = Expiry(pins, lifetime=ALL).plan(table, LATER)
    assert plan.dry_run
    assert len(on_disk(table, "data")) == 7
    report = Expiry(pins, lifetime=ALL).expire(table, LATER)
    assert report.expired == plan.expired == tuple(one.snapshot_id for one in history[:-1])
    assert (report.files, report.metadata_files, report.kept) == (5, plan.metadata_files, 1)
    assert report.size == plan.size > 0
    assert {f"file://{path}" for path in on_disk(table, "data")} == table.paths()
    assert ids(table) == [*range(50), 99]
    assert_whole(table)
    old = [one.snapshot_id for one in table.history()]
    assert old == [one.snapshot_id for one in history], "what was stays known"
    assert [one.live for one in table.history()] == [False] * 6 + [True]
    assert table.snapshot_id() == last
    with pytest.raises(NotFoundError, match="expired"):
        table.read(snapshot_id=history[0].snapshot_id)
    assert find_orphans(table, older_than=timedelta(days=1), now=LATER).orphans == (), "nothing is left over"


def test_young_and_last_snapshots_are_kept(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 5)
    assert Expiry(pins).expire(table).expired == ()
    assert Expiry(pins).expire(table, LATER).expired == (), "the last hundred"
    assert len(Expiry(pins, lifetime=Lifetime(keep_last=3)).expire(table, LATER).expired) == 2
    assert_whole(table)
    assert ids(table) == list(range(50))


def test_what_is_needed_is_kept(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 1)
    tagged = table.snapshot_id()
    assert tagged is not None
    table.native().manage_snapshots().create_tag(tagged, "release").commit()
    held = table.overwrite(rows(1))
    modelled = table.overwrite(rows(2))
    gone = table.overwrite(rows(3))
    last = table.overwrite(rows(4))
    pins.hold(table.name, held, "run:x")
    expiry = Expiry(pins, lambda name: [modelled] if name == "raw.a" else [], lifetime=ALL)
    assert expiry.expire(table, LATER).expired == (gone,)
    assert ids(table, tagged) == list(range(10))
    assert (ids(table, held), ids(table, modelled), ids(table, last)) == ([1], [2], [4])
    assert_whole(table)
    pins.release("run:x")
    assert expiry.expire(table, LATER).expired == (held,)
    assert ids(table, tagged) == list(range(10))
    line = table.history()
    assert len(line) == 5, "a gap in the metadata hides no snapshot"


def test_an_ingest_finds_its_offsets_behind_what_expired(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 1)
    first, second = (FencedCommitter(lake, table.name, f"kafka:{name}") for name in "ab")
    first.commit(table.write_files(rows(50)), {}, {"0": 7})
    for number in range(260):
        second.commit([], {"0": number} if number else {}, {"0": number + 1})
        if number % 50 == 49:
            Expiry(pins, lifetime=ALL).expire(table, LATER)
            assert first.committed() == {"0": 7}
            assert second.committed() == {"0": number + 1}
    assert len(table.history()) == 262
    assert sum(one.live for one in table.history()) < 262
    assert ids(table) == [*range(10), 50]
    assert_whole(table)


def test_archived_snapshots_are_kept_and_expired_like_others(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 205, each=1)
    archived = table.history()[0].snapshot_id
    assert table.head().snapshot(archived) is None
    pins.hold(table.name, archived, "x")
    report = Expiry(pins, lifetime=Lifetime(timedelta(0), 10, timedelta(0))).expire(table, LATER)
    assert len(report.expired) == 194
    assert ids(table, archived) == [0]
    assert ids(table) == list(range(205))
    assert_whole(table)
    left = find_orphans(table, older_than=timedelta(days=1), now=LATER).orphans
    assert all(one.path.endswith(".avro") for one in left), "no data file is left over"


class Meanwhile:
    """Something happens at one step of the expiry, once."""

    def __init__(self, name: str, deed: Callable[[], object]) -> None:
        self._name, self._deed, self.done = name, deed, False

    def __call__(self, name: str) -> None:
        if name == self._name and not self.done:
            self.done = True
            self._deed()


def test_a_tag_that_comes_in_the_middle_is_kept(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 1)
    first = table.snapshot_id()
    assert first is not None
    table.overwrite(rows(1))
    step = Meanwhile("archived", lambda: table.native().manage_snapshots().create_tag(first, "late").commit())
    report = Expiry(pins, lifetime=ALL, step=step).expire(table, LATER)
    assert step.done
    assert report.expired == ()
    assert ids(table, first) == list(range(10))
    assert "late" in table.native().metadata.refs
    assert_whole(table)


def test_a_rollback_in_the_middle_is_kept(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 1)
    first = table.snapshot_id()
    assert first is not None
    table.overwrite(rows(1))
    step = Meanwhile(
        "archived", lambda: table.native().manage_snapshots().rollback_to_snapshot(first).commit()
    )
    Expiry(pins, lifetime=ALL, step=step).expire(table, LATER)
    assert step.done
    assert ids(table) == list(range(10))
    assert_whole(table)


def test_a_pin_is_refused_once_it_is_too_late(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 1)
    first = table.snapshot_id()
    assert first is not None
    table.overwrite(rows(1))
    refused = []

    def hold() -> None:
        with pytest.raises(ConflictError):
            pins.hold(table.name, first, "late")
        refused.append(1)

    Expiry(pins, lifetime=ALL, step=Meanwhile("sentenced", hold)).expire(table, LATER)
    assert refused


def test_appends_in_the_middle_stop_nothing(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 3)
    step = Meanwhile("archived", lambda: table.append(rows(77)))
    report = Expiry(pins, lifetime=ALL, step=step).expire(table, LATER)
    assert len(report.expired) >= 2
    assert ids(table) == [*range(30), 77]
    assert_whole(table)


def test_a_compaction_planned_on_what_expires_is_not_lost_unseen(lake: Lakehouse, pins: Pins) -> None:
    """Its starting snapshot is gone when it commits: the packed files are live, so the work counts."""
    table = filled(lake, 6)

    def disturb(name: str) -> None:
        if name == "rewritten":
            table.append(rows(500))
            Expiry(pins, lifetime=ALL).expire(table, LATER)

    report = Compaction(table, Packing(min_files=2), step=disturb).compact()
    report.check()
    assert report.partitions[0].snapshot_id == table.snapshot_id()
    assert len(table.paths()) == 2
    assert ids(table) == [*range(60), 500]
    assert_whole(table)


def test_files_that_are_gone_are_planned_again(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 6)

    def disturb(name: str) -> None:
        if name == "planned":
            table.overwrite(rows(1))
            for number in range(2, 6):
                table.append(rows(number))
            Expiry(pins, lifetime=ALL).expire(table, LATER)

    report = Compaction(table, Packing(min_files=2), step=disturb).compact()
    report.check()
    assert ids(table) == [1, 2, 3, 4, 5]
    assert len(table.paths()) == 1


def test_damaged_metadata_that_is_to_be_kept_stops_the_deletion(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 3)
    head = table.head()
    snapshot = head.snapshot(head.current_id or 0)
    assert snapshot is not None
    path = Path(snapshot["manifest-list"].removeprefix("file://"))
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    before = on_disk(table, "data")
    with pytest.raises(IntegrityError):
        Expiry(pins, lifetime=ALL).expire(table, LATER)
    assert on_disk(table, "data") == before


def test_damaged_metadata_that_goes_is_told(lake: Lakehouse, pins: Pins) -> None:
    table = filled(lake, 1)
    first = table.head().snapshots[0]
    table.overwrite(rows(1))
    Path(first["manifest-list"].removeprefix("file://")).write_bytes(b"junk")
    report = Expiry(pins, lifetime=ALL).expire(table, LATER)
    assert report.unreadable == (first["manifest-list"],)
    assert ids(table) == [1]

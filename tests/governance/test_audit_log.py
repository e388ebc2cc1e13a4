import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from rayplat.core.errors import IntegrityError, UserError
from rayplat.core.events import AliasMoved, EndpointDeployed, Event, EventBus, RunFinished, SnapshotCommitted
from rayplat.core.settings import Settings
from rayplat.governance.audit_log import AuditLog
from rayplat.governance.entry import GENESIS, Head, chained_hash


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, user="ada")


@pytest.fixture
def log(settings):
    audit = AuditLog(settings)
    yield audit
    audit.close()


def _edit(settings, *statements):
    database = sqlite3.connect(settings.home / "rayplat.db")
    with database:
        for statement, *values in statements:
            assert database.execute(statement, values).rowcount > 0
    database.close()


def _fill(log, count=6):
    for i in range(count):
        log.append("ada", "alias.moved", f"model@{i}", {"version": i, "reason": "it is bétter", "none": None})


def test_entries_come_back_in_order_as_they_were_written(log):
    when = datetime(2013, 9, 1, 12, tzinfo=UTC)
    first = log.append("ada", "endpoint.deployed", "late", {"version": 2, "b": [1, 2.5, "ü"]}, when)
    second = log.append("bob", "alias.moved", "late@champion", {})
    assert log.entries() == [first, second]
    assert first.previous == GENESIS
    assert first.at == when
    assert second.previous == first.hash
    assert log.entries(action="alias.moved") == [second]
    assert log.entries(subject="late") == [first]
    assert log.verify() == 2
    assert log.head() == Head(2, second.hash)


def test_an_empty_log_is_whole(log):
    assert log.verify() == 0
    assert log.head() == Head(0, GENESIS)


@pytest.mark.parametrize("details", [{"x": float("nan")}, {"x": object()}, {"x": {1, 2}}])
def test_details_that_json_lacks_are_refused_and_nothing_is_written(log, details):
    with pytest.raises(UserError, match="cannot be written"):
        log.append("ada", "a", "s", details)
    assert log.entries() == []


@pytest.mark.parametrize(
    "column", ["actor", "action", "subject", "details", "at", "hash", "previous"], ids=str
)
def test_an_edit_of_any_field_is_seen(log, settings, column):
    _fill(log)
    _edit(settings, (f"UPDATE audit_log SET {column} = {column} || ' ' WHERE seq = 3",))
    with pytest.raises(IntegrityError, match="broken at entry 3"):
        log.verify()


def test_an_edit_to_another_type_is_seen(log, settings):
    _fill(log)
    _edit(settings, ("UPDATE audit_log SET actor = x'ff00' WHERE seq = 2",))
    with pytest.raises(IntegrityError, match="broken at entry 2"):
        log.verify()


def test_an_edit_that_mends_its_own_hash_is_seen_at_the_next_entry(log, settings):
    _fill(log)
    old = log.entries()[2]
    mended = chained_hash(
        old.previous, 3, old.at.isoformat(), actor="eve", action=old.action, subject=old.subject, details="{}"
    )
    _edit(settings, ("UPDATE audit_log SET actor='eve', details='{}', hash=? WHERE seq = 3", mended))
    with pytest.raises(IntegrityError, match="broken at entry 4: it follows"):
        log.verify()


def test_a_deletion_in_the_middle_is_seen(log, settings):
    _fill(log)
    _edit(settings, ("DELETE FROM audit_log WHERE seq = 4",))
    with pytest.raises(IntegrityError, match="broken at entry 4: it is missing"):
        log.verify()


def test_a_deletion_that_closes_the_gap_is_seen(log, settings):
    _fill(log)
    _edit(
        settings,
        ("DELETE FROM audit_log WHERE seq = 4",),
        ("UPDATE audit_log SET seq = seq - 1 WHERE seq > 4",),
    )
    with pytest.raises(IntegrityError, match="broken at entry 4"):
        log.verify()


def test_a_new_order_is_seen(log, settings):
    _fill(log)
    _edit(
        settings,
        ("UPDATE audit_log SET seq = -1 WHERE seq = 2",),
        ("UPDATE audit_log SET seq = 2 WHERE seq = 3",),
        ("UPDATE audit_log SET seq = 3 WHERE seq = -1",),
    )
    with pytest.raises(IntegrityError, match="broken at entry 2"):
        log.verify()


def test_an_insertion_is_seen(log, settings):
    _fill(log)
    _edit(
        settings,
        ("UPDATE audit_log SET seq = -seq - 1 WHERE seq > 3",),
        ("UPDATE audit_log SET seq = -seq WHERE seq < 0",),
        ("INSERT INTO audit_log SELECT 4, at, 'eve', '', '', '{}', hash, hash FROM audit_log WHERE seq=3",),
    )
    with pytest.raises(IntegrityError, match="broken at entry 4: its content"):
        log.verify()


def test_a_cut_tail_is_seen_only_with_a_head_noted_elsewhere(log, settings):
    _fill(log)
    noted = log.head()
    _edit(settings, ("DELETE FROM audit_log WHERE seq > 4",))
    assert log.verify() == 4
    with pytest.raises(IntegrityError, match="broken at entry 5: it is missing: the log had 6"):
        log.verify(noted)


def test_a_chain_written_anew_is_seen_with_a_head_noted_elsewhere(log, settings):
    _fill(log)
    noted = log.head()
    _edit(settings, ("DELETE FROM audit_log",))
    for i in range(6):
        log.append("eve", "alias.moved", f"model@{i}", {})
    assert log.verify() == 6
    with pytest.raises(IntegrityError, match="was noted elsewhere"):
        log.verify(noted)


def test_a_head_noted_earlier_holds_while_the_log_grows(log):
    _fill(log, 3)
    noted = log.head()
    _fill(log, 3)
    assert log.verify(noted) == 6


def test_the_bus_writes_events_down_with_who_answers_for_them(log):
    bus = EventBus()
    bus.subscribe(Event, log.record)
    when = datetime(2013, 9, 2, tzinfo=UTC)
    moved = AliasMoved(
        at=when,
        model="late",
        alias="champion",
        version=3,
        previous=2,
        actor="risk",
        reason="all gates passed",
    )
    bus.emit(moved)
    bus.emit(EndpointDeployed(endpoint="late", model="late", version=3))
    bus.emit(SnapshotCommitted(table="raw.x", snapshot_id=9, rows=4, source="kafka", offsets={"0": 4}))
    bus.emit(RunFinished(model="late", run_id="r1", metrics={"roc_auc": 0.7, "loss": float("nan")}))
    alias, deployed, committed, run = log.entries()
    assert (alias.actor, alias.action, alias.subject, alias.at) == (
        "risk",
        "alias.moved",
        "late@champion",
        when,
    )
    assert alias.details["reason"] == "all gates passed"
    assert (deployed.actor, deployed.subject) == ("ada", "late")
    assert committed.details["offsets"] == {"0": 4}
    assert run.details["metrics"] == {"roc_auc": 0.7, "loss": "nan"}
    assert log.verify() == 4


def test_the_telemetry_of_one_domain_is_not_written_down(log):
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd(Event):
        size: int

    log.record(Odd(size=3))
    assert log.entries() == []


_APPEND_MANY = """
import sys
from pathlib import Path
from rayplat.core.settings import Settings
from rayplat.governance.audit_log import AuditLog
log = AuditLog(Settings(home=Path(sys.argv[1]), user="ada"))
for i in range(25):
    log.append(f"worker-{sys.argv[2]}", "test", str(i), {"i": i})
log.close()
"""


def test_four_processes_make_one_chain(log, settings):
    command = [sys.executable, "-c", _APPEND_MANY, str(settings.home)]
    workers = [subprocess.Popen([*command, str(w)]) for w in range(4)]
    assert [w.wait(60) for w in workers] == [0] * 4
    assert log.verify() == 100
    by_actor = {}
    for entry in log.entries():
        by_actor.setdefault(entry.actor, []).append(int(entry.subject))
    assert by_actor == {f"worker-{w}": list(range(25)) for w in range(4)}

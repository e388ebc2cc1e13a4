"""Maintenance beside writers, and killed at each of its steps: nothing is lost, doubled or unreadable."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rayplat.core.errors import ConflictError
from rayplat.core.project.table import linear
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.maintenance.compact import Compaction
from rayplat.data.lakehouse.maintenance.expire import Expiry
from rayplat.data.lakehouse.maintenance.orphans import find_orphans
from rayplat.data.lakehouse.maintenance.plan import Packing
from rayplat.data.lakehouse.pins import Pins
from tests.data.lakehouse.maintenance import processes
from tests.data.lakehouse.maintenance.worlds import assert_whole, filled, ids, made

ROOT = Path(__file__).parents[4]
WRITERS, COMMITS = 3, 40


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(Path(processes.__file__)), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    return subprocess.Popen(command, env=environment)


def test_writers_and_all_maintenance_at_once(lake: Lakehouse, settings: Settings) -> None:
    table = made(lake)
    left = Path(table.location().removeprefix("file://")) / "data" / "left.parquet"
    left.parent.mkdir(parents=True, exist_ok=True)
    pins = Pins(settings)
    block = COMMITS * processes.EACH
    writers = [start("append", settings.home, number * block, COMMITS) for number in range(WRITERS)]
    packed = expired = swept = rounds = 0
    try:
        while any(writer.poll() is None for writer in writers):
            if table.snapshot_id() is None:
                time.sleep(0.05)
                continue
            rounds += 1
            report = Compaction(table, Packing(min_files=4), linear("id")).compact()
            packed += sum(one.snapshot_id is not None for one in report.partitions)
            try:
                now = datetime.now(UTC) + timedelta(seconds=1)
                expired += len(Expiry(pins, lifetime=processes.ALL).expire(table, now).expired)
            except ConflictError:
                pass  # the writers left no gap this time
            left.write_bytes(b"left over")
            stamp = time.time() - timedelta(days=9).total_seconds()
            os.utime(left, (stamp, stamp))
            swept += len(find_orphans(table, delete=True).orphans)
            assert not left.exists()
        assert [writer.wait(60) for writer in writers] == [0] * WRITERS
    finally:
        for writer in writers:
            writer.kill()
    print(f"{rounds} rounds packed {packed} times, expired {expired}, swept {swept}")
    assert packed >= 2
    assert expired
    assert ids(table) == list(range(WRITERS * block))
    assert_whole(table)
    assert len(table.history()) >= WRITERS * COMMITS + packed


@pytest.mark.parametrize(
    ("kind", "step"), [(kind, step) for kind, steps in processes.STEPS.items() for step in steps]
)
def test_killed_at_each_step(lake: Lakehouse, settings: Settings, kind: str, step: str) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    rng = random.Random(seed)
    table = filled(lake, rng.randint(6, 12))
    table.overwrite(table.read())
    for number in range(5):
        table.append(table.read(where=f"id = {number}"))
    before = ids(table)
    snapshots = len(table.history())
    process = start(kind, settings.home, step, rng.randint(1, 2) if step == "rewritten" else 1)
    assert process.wait(60) in (-signal.SIGKILL, 0 if step == "rewritten" else -signal.SIGKILL)
    assert ids(table) == before
    assert_whole(table)
    processes.compact(str(settings.home), lambda _: None)
    processes.expire(str(settings.home), lambda _: None)
    assert ids(table) == before
    assert_whole(table)
    assert len(table.history()) >= snapshots
    # What the killed process left is an orphan now, and nothing that is needed is one.
    later = datetime.now(UTC) + timedelta(days=9)
    find_orphans(table, delete=True, now=later)
    assert find_orphans(table, now=later).orphans == ()
    assert ids(table) == before
    assert_whole(table)

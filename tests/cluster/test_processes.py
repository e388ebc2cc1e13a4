"""Background processes are found again by id and start time, and ended with their children."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from rayplat.cluster.processes import (
    ProcessRecord,
    end,
    ours,
    running,
    start_process,
    stop_process,
    wait_until,
    write_record,
)
from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
STUBBORN = [sys.executable, "-c", DEAF]


def test_a_started_process_is_found_and_stopped(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    record = start_process(settings, "sleeper", SLEEPER)
    write_record(settings, record)
    assert running(settings, "sleeper") == record
    assert [p.pid for p in ours(settings)] == [record.pid]
    assert stop_process(settings, "sleeper") is True
    assert running(settings, "sleeper") is None
    assert stop_process(settings, "sleeper") is False
    assert ours(settings) == []


def test_a_reused_process_id_is_not_taken_for_ours(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    record = start_process(settings, "sleeper", SLEEPER)
    other = ProcessRecord("other", record.pid, record.started - 100.0)
    write_record(settings, other)
    assert running(settings, "other") is None
    assert stop_process(settings, "other") is False
    assert record.alive()
    end(ours(settings))


def test_a_process_that_ignores_the_request_is_ended_by_force(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    record = start_process(settings, "stubborn", STUBBORN)
    for _ in wait_until(10, "the child", "look at it"):
        if "deaf" in (settings.run_dir / "stubborn.log").read_text():
            break
    assert end(ours(settings)) == [record.pid]
    assert not record.alive()


def test_processes_of_another_platform_are_left_alone(tmp_path: Path) -> None:
    mine, other = Settings(home=tmp_path / "a"), Settings(home=tmp_path / "b")
    record = start_process(other, "sleeper", SLEEPER)
    assert ours(mine) == []
    assert record.alive()
    end([psutil.Process(record.pid)])


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="did not start"):
        start_process(Settings(home=tmp_path), "nothing", ["/nowhere/program"])


def test_waiting_ends_with_what_did_not_answer() -> None:
    begin = time.monotonic()
    with pytest.raises(UnavailableError, match="the moon did not answer"):
        list(wait_until(0.2, "the moon", "wait for the night"))
    assert time.monotonic() - begin < 5

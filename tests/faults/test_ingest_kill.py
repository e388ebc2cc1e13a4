"""Real kills of a real ingest: whatever dies and whenever, every record is there once.

The records of a run are a function of its seed, which each test prints.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from rayplat.cluster.processes import running, stop_process
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.development.broker import start_broker
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.development.tell import Teller
from rayplat.data.streaming.ledger import CRASH_POINTS
from tests.data.worlds import TABLE, departures, mixture, produce, received, recording
from tests.faults.ingested import check_contents, committed, finish, told, wait_for

DRIVER = Path(__file__).with_name("ingest_driver.py")
KILLED = -signal.SIGKILL
FASTER = 4


def drive(
    settings: Settings, bootstrap: str, point: str = "none", times: int = 1, mode: str = "once"
) -> "subprocess.Popen[bytes]":
    where = [str(DRIVER), str(settings.home), bootstrap]
    argv = [sys.executable, "-W", "error", *where, point, str(times), mode]
    return subprocess.Popen(argv, stderr=subprocess.PIPE)


def ended(driver: "subprocess.Popen[bytes]") -> int:
    error = driver.communicate(timeout=120)[1].decode()
    assert driver.returncode in {0, KILLED, FASTER, -signal.SIGTERM}, error
    return driver.returncode


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lakehouse]:
    lake = Lakehouse(Settings(home=tmp_path / "home"))
    yield lake
    lake.close()


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create("departures", 2)
        yield cluster


SEEDS = [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= 20)) for seed in range(200)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_driver_killed_at_a_crash_point(lake: Lakehouse, cluster: MockCluster, seed: int) -> None:
    """Each seed has its own point, moment, records and way to run; the points take turns."""
    rng = random.Random(seed)
    point = CRASH_POINTS[seed % len(CRASH_POINTS)]
    counts = [rng.randrange(50, 150), rng.randrange(0, 100)]
    times, mode = rng.choice([1, 2]), rng.choice(["once", "service"])
    print(f"seed {seed}: {counts} records, {mode}, killed at the {times}. {point}")
    values = [mixture(count, seed=rng.randrange(10**6)) for count in counts]
    for partition in (0, 1):
        produce(cluster.bootstrap, "departures", partition, values[partition])
    assert ended(drive(lake.settings, cluster.bootstrap, point, times, mode)) == KILLED
    late = mixture(20, seed=seed)
    produce(cluster.bootstrap, "departures", 1, late)
    finish(lake, cluster.bootstrap)
    received(lake).check({0: len(values[0]), 1: len(values[1]) + len(late)})
    check_contents(lake, told(cluster.bootstrap))


def test_killed_again_and_again(lake: Lakehouse, cluster: MockCluster) -> None:
    seed = 11
    rng = random.Random(seed)
    print(f"seed {seed}")
    values = mixture(300, seed)
    produce(cluster.bootstrap, "departures", 0, values)
    points = [rng.choice(CRASH_POINTS[1:]) for _ in range(4)]
    codes = [ended(drive(lake.settings, cluster.bootstrap, point)) for point in points]
    assert codes == [KILLED] * 4, points
    finish(lake, cluster.bootstrap)
    received(lake).check({0: len(values)})


def test_a_service_told_to_stop_commits_what_it_has_read(lake: Lakehouse, cluster: MockCluster) -> None:
    seed = 13
    print(f"seed {seed}")
    values = mixture(300, seed)
    produce(cluster.bootstrap, "departures", 0, values[:200])
    driver = drive(lake.settings, cluster.bootstrap, mode="service")
    wait_for(lambda: committed(lake, TABLE).get("0") == 200)
    produce(cluster.bootstrap, "departures", 0, values[200:])
    driver.send_signal(signal.SIGTERM)
    assert ended(driver) == 0
    before = committed(lake, TABLE)["0"]
    check_contents(lake, {place: v for place, v in told(cluster.bootstrap).items() if place[1] < before})
    finish(lake, cluster.bootstrap)
    received(lake).check({0: len(values)})


def test_a_service_beside_another(lake: Lakehouse, cluster: MockCluster) -> None:
    """Two services and a kill: whoever is fenced ends, and no record is there twice."""
    values = mixture(400, 17)
    produce(cluster.bootstrap, "departures", 0, values[:200])
    drivers = [drive(lake.settings, cluster.bootstrap, mode="service") for _ in range(2)]
    wait_for(lambda: committed(lake, TABLE).get("0") == 200)
    produce(cluster.bootstrap, "departures", 0, values[200:])
    wait_for(
        lambda: committed(lake, TABLE).get("0") == len(values) or all(d.poll() is not None for d in drivers)
    )
    for driver in drivers:
        driver.terminate()
    assert {ended(driver) for driver in drivers} <= {0, FASTER, -signal.SIGTERM}
    finish(lake, cluster.bootstrap)
    received(lake).check({0: len(values)})
    check_contents(lake, told(cluster.bootstrap))


def test_drivers_at_once_and_one_of_them_killed(lake: Lakehouse, cluster: MockCluster) -> None:
    seed = 5
    print(f"seed {seed}")
    values = mixture(400, seed)
    produce(cluster.bootstrap, "departures", 0, values)
    plans = [("none", 1), ("none", 1), ("after_quarantine_commit", 2)]
    drivers = [drive(lake.settings, cluster.bootstrap, point, times) for point, times in plans]
    codes = [ended(driver) for driver in drivers]
    print(f"exit codes {codes}")
    finish(lake, cluster.bootstrap)
    received(lake).check({0: len(values)})
    check_contents(lake, told(cluster.bootstrap))


def test_the_broker_killed_between_and_in_the_middle(lake: Lakehouse) -> None:
    """A new broker is empty; the teller brings it back to where the lakehouse is, and goes on."""
    settings = lake.settings
    table = departures(replay=lambda: recording(3000))
    begin = datetime(2013, 1, 1, tzinfo=UTC)
    try:
        for seconds in (800, 1700, 3000):
            bootstrap = start_broker(settings, {"departures": 2})
            teller = Teller(bootstrap, [table])
            assert teller.tell(begin + timedelta(seconds=seconds), partial(committed, lake)).done
            if seconds == 1700:  # this time it dies while a driver reads from it, and the driver too
                assert ended(drive(settings, bootstrap, "after_quarantine_commit", 3)) == KILLED
            else:
                finish(lake, bootstrap, table)
            teller.close()
            process = running(settings, "kafka")
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
        rows = lake.table(TABLE).read(["flight_id"])["flight_id"].to_pylist()
        assert sorted(rows) == sorted(recording(3000)["flight_id"].to_pylist())
    finally:
        stop_process(settings, "kafka")

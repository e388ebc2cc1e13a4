"""Real kills of a real ingest: whatever dies and whenever, every record is there once.

The records of a run are a function of its seed, which each test prints.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from rayplat.cluster.processes import running, stop_process
from rayplat.core.errors import IntegrityError
from rayplat.core.events import EventBus
from rayplat.core.project.table import Table
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.streaming.batch import PartitionPlan, Span, Work
from rayplat.data.streaming.development.broker import start_broker
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.development.tell import Teller
from rayplat.data.streaming.executor import InlineExecutor, RayExecutor
from rayplat.data.streaming.formats.decoder import JsonDecoder
from rayplat.data.streaming.ingest import ingest_once
from rayplat.data.streaming.ledger import CRASH_POINTS
from rayplat.data.streaming.readers import RayReaders
from rayplat.data.streaming.report import IngestReport
from rayplat.data.streaming.service import IngestService
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.source import Limit, Source
from tests.data.worlds import DEAD, QUARANTINE, TABLE, departures, mixture, produce, received, recording

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


def finish(lake: Lakehouse, bootstrap: str, table: Table | None = None) -> IngestReport:
    settings = lake.settings.model_copy(
        update={"kafka": KafkaSettings(bootstrap=bootstrap), "ingest": IngestSettings(batch_rows=1000)}
    )
    return ingest_once(lake, table or departures(), settings, EventBus(), executor=InlineExecutor())


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


def told(bootstrap: str) -> dict[tuple[int, int], bytes | None]:
    """Every record on the topic, by partition and offset."""
    everything: dict[tuple[int, int], bytes | None] = {}
    with KafkaSource(bootstrap, "departures") as source:
        for partition, mark in source.watermarks().items():
            records = source.read(partition, mark.low, Limit(mark.high, 10**9))
            for offset, value in zip(records.offsets, records.values, strict=True):
                everything[partition, offset] = value
    return everything


def check_contents(lake: Lakehouse, topic: dict[tuple[int, int], bytes | None]) -> None:
    """The ids in the table are those on the topic, and the quarantine has the very bytes."""
    rows = lake.table(TABLE).read(["flight_id", "_partition", "_offset"]).to_pylist()
    for row in rows:
        value = topic[row["_partition"], row["_offset"]] or b""
        assert f'"{row["flight_id"]}"'.encode() in value
    aside = {
        name: lake.table(name).read(["partition", "offset", "raw"]).to_pylist() for name in (QUARANTINE, DEAD)
    }
    bad = [row for found in aside.values() for row in found]
    assert all(topic[int(row["partition"]), int(row["offset"])] == row["raw"] for row in bad)
    assert len(rows) + len(bad) == len(topic), "accepted + quarantined + dead = received"
    history = [s.properties for s in lake.table(TABLE).history()]
    told = {
        n: sum(int(p[f"rayplat.{n}"]) for p in history)
        for n in ("received", "accepted", "quarantined", "dead")
    }
    assert list(told.values()) == [len(topic), len(rows), len(aside[QUARANTINE]), len(aside[DEAD])]


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


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


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


def committed(lake: Lakehouse, table: str) -> dict[str, int]:
    return FencedCommitter(lake, table, "kafka:departures").committed() if lake.exists(table) else {}


@pytest.mark.ray
def test_in_ray_tasks(ray_session: Settings, cluster: MockCluster, tmp_path: Path) -> None:
    """One task a partition; bad records, batches and offsets as in the driver's own process."""
    settings = ray_session.with_home(tmp_path / "home").model_copy(
        update={"kafka": KafkaSettings(bootstrap=cluster.bootstrap), "ingest": IngestSettings(batch_rows=70)}
    )
    lake = Lakehouse(settings)
    values = [mixture(200, seed=1), mixture(90, seed=2)]
    for partition in (0, 1):
        produce(cluster.bootstrap, "departures", partition, values[partition])
    report = ingest_once(lake, departures(), settings, EventBus())
    assert report.rows + report.quarantined + report.dead == len(values[0]) + len(values[1])
    assert report.offsets == {"0": len(values[0]), "1": len(values[1])}
    received(lake).check({0: len(values[0]), 1: len(values[1])})
    check_contents(lake, told(cluster.bootstrap))
    lake.close()


@pytest.mark.ray
def test_an_error_in_a_task_is_the_error_of_the_ingest(
    ray_session: Settings, cluster: MockCluster, tmp_path: Path
) -> None:
    lake = Lakehouse(ray_session.with_home(tmp_path / "home"))
    writer = lake.ensure(departures()).writer()
    work = Work(replace(departures(), source=None), JsonDecoder(departures().columns), writer, {})
    opener = partial(KafkaSource, cluster.bootstrap, "departures", timeout_s=1.0)
    plan = PartitionPlan(opener, work, Span(partition=0, start=5, until=9))
    with pytest.raises(IntegrityError, match="offsets went back"):
        list(RayExecutor().run([plan]))


class WatchedReaders(RayReaders):
    """Readers whose processes a test can see."""

    seen: ClassVar[list["WatchedReaders"]] = []

    def __init__(self, open_source: Callable[[], Source], work: Work) -> None:
        super().__init__(open_source, work)
        self.seen.append(self)


@pytest.mark.ray
def test_a_worker_killed_while_it_writes(ray_session: Settings, cluster: MockCluster, tmp_path: Path) -> None:
    """Real worker processes die in the middle of their work, three times; the service goes on."""
    seed = 23
    print(f"seed {seed}")
    rng = random.Random(seed)
    settings = ray_session.with_home(tmp_path / "home").model_copy(
        update={
            "kafka": KafkaSettings(bootstrap=cluster.bootstrap),
            "ingest": IngestSettings(batch_rows=200, trigger_s=0.05),
        }
    )
    lake, service = Lakehouse(settings), None
    service = IngestService(lake, settings, EventBus(), readers=WatchedReaders)
    values = mixture(20_000, seed)
    produce(cluster.bootstrap, "departures", 0, values[:1000])
    thread = threading.Thread(target=service.feed, args=([departures()],))
    thread.start()
    try:
        wait_for(lambda: committed(lake, TABLE).get("0", 0) >= 1000)
        for part in range(3):
            (pid,) = WatchedReaders.seen[-1].pids().values()
            begin = 1000 + part * 6000
            produce(cluster.bootstrap, "departures", 0, values[begin : begin + 6000])
            time.sleep(rng.random() * 0.3)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: committed(lake, TABLE)["0"] == begin + 6000)  # noqa: B023
    finally:
        service.stop()
        thread.join(60)
    finish(lake, cluster.bootstrap)
    received(lake).check({0: 19_000})
    check_contents(lake, told(cluster.bootstrap))
    lake.close()

"""An ingest whose readers are Ray's processes: as in the driver's own, also when they are killed."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from rayplat.core.errors import IntegrityError
from rayplat.core.events import EventBus
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.batch import PartitionPlan, Span, Work
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.executor import RayExecutor
from rayplat.data.streaming.formats.decoder import JsonDecoder
from rayplat.data.streaming.ingest import ingest_once
from rayplat.data.streaming.readers import RayReaders
from rayplat.data.streaming.service import IngestService
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.source import Source
from tests.data.worlds import TABLE, departures, mixture, produce, received
from tests.faults.ingested import check_contents, committed, finish, told, wait_for

pytestmark = pytest.mark.ray


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create("departures", 2)
        yield cluster


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

"""The ingest service: fed until told to stop; new records, new partitions, errors and restarts."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

import rayplat as rp
from rayplat.core.errors import ConflictError, IntegrityError, RayplatError, UnavailableError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.ingest import ingest_once
from rayplat.data.streaming.readers import InlineReaders
from rayplat.data.streaming.report import IngestReport
from rayplat.data.streaming.service import IngestService
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.source import Limit, Records, Watermarks
from tests.data.worlds import TABLE, departures, mixture, produce, received, record


@pytest.fixture
def ready(settings: Settings, cluster: MockCluster) -> Settings:
    cluster.create("departures", 2)
    return settings.model_copy(
        update={
            "kafka": KafkaSettings(bootstrap=cluster.bootstrap),
            "ingest": IngestSettings(batch_rows=40, poll_timeout_s=2, trigger_s=0.05, restarts=2),
        }
    )


class Running:
    """A service in a thread, and what came of it."""

    def __init__(self, service: IngestService, tables: list[Any]) -> None:
        self.service = service
        self.reports: list[IngestReport] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(tables,))
        self._thread.start()

    def _run(self, tables: list[Any]) -> None:
        try:
            self.reports = self.service.feed(tables)
        except RayplatError as error:
            self.error = error

    def end(self) -> None:
        self.service.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextmanager
def running(
    settings: Settings, table: Any = None, bus: EventBus | None = None, **more: Any
) -> Iterator[Running]:
    service = IngestService(
        Lakehouse(settings), settings, bus or EventBus(), **{"readers": InlineReaders, **more}
    )
    run = Running(service, [table or departures()])
    try:
        yield run
    finally:
        run.end()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def count(lake: Lakehouse) -> int:
    return lake.table(TABLE).count() if lake.exists(TABLE) else 0


def test_records_that_come_later_are_taken_in(ready: Settings, lake: Lakehouse, cluster: MockCluster) -> None:
    with running(ready) as run:
        produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(100)])
        until(lambda: count(lake) == 100)
        produce(cluster.bootstrap, "departures", 1, [record(i) for i in range(50)])
        until(lambda: count(lake) == 150)
        run.end()
        assert run.error is None
        assert [(r.rows, r.offsets) for r in run.reports] == [(150, {"0": 100, "1": 50})]
    received(lake).check({0: 100, 1: 50})


def test_bad_records_never_stall_the_rest(ready: Settings, lake: Lakehouse, cluster: MockCluster) -> None:
    values = mixture(300, seed=8)
    produce(cluster.bootstrap, "departures", 0, [b"junk"] * 90)
    with running(ready) as run:
        produce(cluster.bootstrap, "departures", 0, values)
        until(lambda: sum(lake_offsets(lake).values()) == 90 + len(values))
        run.end()
        assert run.error is None
    received(lake).check({0: 90 + len(values)})
    for snapshot in lake.table(TABLE).history():
        told = {
            k: int(snapshot.properties[f"rayplat.{k}"])
            for k in ("received", "accepted", "quarantined", "dead")
        }
        assert told["received"] == told["accepted"] + told["quarantined"] + told["dead"]


def lake_offsets(lake: Lakehouse) -> dict[str, int]:
    history = lake.table(TABLE).history() if lake.exists(TABLE) else []
    return history[-1].offsets if history else {}


class GrowingSource(KafkaSource):
    """Tells of its second partition only after the first was read."""

    def watermarks(self) -> dict[Any, Watermarks]:
        marks = super().watermarks()
        return marks if marks[0].high else {0: marks[0]}


def test_a_new_partition_is_noticed(ready: Settings, lake: Lakehouse, cluster: MockCluster) -> None:
    produce(cluster.bootstrap, "departures", 1, [record(1), record(2)])
    opener = partial(GrowingSource, cluster.bootstrap, "departures", timeout_s=2.0)
    with running(ready, open_source=opener) as run:
        until(lambda: lake.exists(TABLE))
        time.sleep(0.3)
        assert count(lake) == 0
        produce(cluster.bootstrap, "departures", 0, [record(3)])
        until(lambda: count(lake) == 3)
        run.end()
        assert run.error is None
    received(lake).check({0: 1, 1: 2})


def test_a_second_driver_is_fenced(ready: Settings, lake: Lakehouse, cluster: MockCluster) -> None:
    produce(cluster.bootstrap, "departures", 0, [record(1)])
    with running(ready) as run:
        until(lambda: count(lake) == 1)
        # It reads the same records as the other and commits first, by an opener that makes the first wait.
        produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(5000)])
        for _ in range(20):
            try:
                ingest_once(lake, departures(), ready, EventBus(), executor=InlineExecutor())
            except ConflictError:
                continue  # the service was faster this time
        run.end()
        assert run.error is None or isinstance(run.error, ConflictError)
    ingest_once(lake, departures(), ready, EventBus(), executor=InlineExecutor())
    received(lake).check({0: 5001})


class FailingSource(KafkaSource):
    """Falls silent at its first reads."""

    failures = 0

    def read(self, partition: Any, start: int, limit: Limit) -> Records:
        if FailingSource.failures > 0:
            FailingSource.failures -= 1
            raise UnavailableError("silence", "wait")
        return super().read(partition, start, limit)


@pytest.mark.parametrize(("failures", "survives"), [(2, True), (3, False)])
def test_silence_is_survived_a_few_times(
    ready: Settings, lake: Lakehouse, cluster: MockCluster, failures: int, survives: bool
) -> None:
    FailingSource.failures = failures
    produce(cluster.bootstrap, "departures", 0, [record(1)])
    opener = partial(FailingSource, cluster.bootstrap, "departures", timeout_s=2.0)
    with running(ready, open_source=opener) as run:
        if survives:
            until(lambda: count(lake) == 1)
            run.end()
            assert run.error is None
        else:
            run.wait()
            assert isinstance(run.error, UnavailableError)
    assert count(lake) == int(survives)


def test_lost_records_stop_the_service(ready: Settings, lake: Lakehouse, cluster: MockCluster) -> None:
    produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(5)])
    ingest_once(lake, departures(), ready, EventBus(), executor=InlineExecutor())
    with MockCluster() as anew:
        anew.create("departures", 2)
        with running(ready, open_source=partial(KafkaSource, anew.bootstrap, "departures")) as run:
            run.wait()
            assert isinstance(run.error, IntegrityError)


def test_events_are_told_of_every_snapshot(ready: Settings, lake: Lakehouse, cluster: MockCluster) -> None:
    seen: list[SnapshotCommitted] = []
    bus = EventBus()
    bus.subscribe(SnapshotCommitted, seen.append)
    produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(100)])
    with running(ready, bus=bus) as run:
        until(lambda: count(lake) == 100)
        run.end()
    assert sum(event.rows for event in seen) == 100
    assert [event.snapshot_id for event in seen] == [s.snapshot_id for s in lake.table(TABLE).history()]


def test_rows_of_the_same_key_are_merged(ready: Settings, lake: Lakehouse, cluster: MockCluster) -> None:
    table = replace(departures(), mode="upsert")
    first = [record(i) for i in range(60)]
    newer = [record(i).replace(b"T05:00", b"T06:00").replace(b"1.5", b"9.5") for i in range(30, 60)]
    produce(cluster.bootstrap, "departures", 0, first)
    with running(ready, table) as run:
        until(lambda: sum(lake_offsets(lake).values()) == 60)
        produce(cluster.bootstrap, "departures", 0, newer)
        until(lambda: sum(lake_offsets(lake).values()) == 90)
        run.end()
        assert run.error is None
    rows = lake.table(TABLE).read(["flight_id", "delay"]).to_pylist()
    assert len(rows) == 60
    assert sum(row["delay"] == 9.5 for row in rows) == 30


def test_later_duplicates_are_set_aside(ready: Settings, lake: Lakehouse, cluster: MockCluster) -> None:
    table = replace(departures(), table_checks=(rp.unique("flight_id"),))
    produce(cluster.bootstrap, "departures", 0, [record(1), record(2), record(1)])
    with running(ready, table) as run:
        until(lambda: sum(lake_offsets(lake).values()) == 3)
        produce(cluster.bootstrap, "departures", 0, [record(2), record(3)])
        until(lambda: sum(lake_offsets(lake).values()) == 5)
        run.end()
        assert run.error is None
    received(lake).check({0: 5})
    assert sorted(lake.table(TABLE).read(["flight_id"])["flight_id"].to_pylist()) == ["UA1", "UA2", "UA3"]

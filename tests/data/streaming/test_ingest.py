"""The ingest: every record once, in the table or in its quarantine, whatever happens in between."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import polars as pl
import pytest

import rayplat as rp
from rayplat.core.errors import ConflictError, IntegrityError, UnavailableError, UserError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.batch import PartitionBatch, PartitionPlan
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.ingest import ingest_once, ingest_project
from rayplat.data.streaming.ledger import CRASH_POINTS
from rayplat.data.streaming.report import IngestReport
from rayplat.data.streaming.sources.kafka import KafkaSource
from tests.data.worlds import BAD, DEAD, QUARANTINE, TABLE, departures, mixture, produce, received, record

Ingest = Callable[..., IngestReport]
INLINE = InlineExecutor()


class CrashError(BaseException):
    """Stands for a kill in these tests: nothing in the product may catch it."""


@pytest.fixture
def ingest(lake: Lakehouse, settings: Settings, cluster: MockCluster) -> Ingest:
    cluster.create("departures", 2)
    ready = settings.model_copy(
        update={
            "kafka": KafkaSettings(bootstrap=cluster.bootstrap),
            "ingest": IngestSettings(batch_rows=40, poll_timeout_s=2),
        }
    )

    def call(table: Any = None, **more: Any) -> IngestReport:
        more = {"executor": INLINE, **more}
        return ingest_once(lake, table or departures(), ready, more.pop("bus", EventBus()), **more)

    return call


def test_rows_arrive_typed_with_their_offsets(ingest: Ingest, lake: Lakehouse, cluster: MockCluster) -> None:
    produce(cluster.bootstrap, "departures", 1, [record(1), record(2)])
    seen: list[SnapshotCommitted] = []
    bus = EventBus()
    bus.subscribe(SnapshotCommitted, seen.append)
    report = ingest(bus=bus)
    assert (report.rows, report.quarantined, report.offsets) == (2, 0, {"1": 2})
    rows = lake.table(TABLE).read().to_pylist()
    assert [(r["flight_id"], r["_partition"], r["_offset"]) for r in rows] == [("UA1", 1, 0), ("UA2", 1, 1)]
    assert [(e.table, e.rows, e.source, e.offsets) for e in seen] == [
        (TABLE, 2, "kafka:departures", {"1": 2})
    ]
    assert seen[0].snapshot_id == report.snapshots[0] == lake.table(TABLE).snapshot_id()


def test_an_empty_topic_and_nothing_new_commit_nothing(ingest: Ingest, cluster: MockCluster) -> None:
    assert ingest().snapshots == ()
    produce(cluster.bootstrap, "departures", 0, [record(1)])
    assert ingest().rows == 1
    assert (ingest().rows, ingest().snapshots) == (0, ())


def test_bad_records_are_put_aside_with_their_reason(
    ingest: Ingest, lake: Lakehouse, cluster: MockCluster
) -> None:
    produce(cluster.bootstrap, "departures", 0, [record(1), *BAD, None, record(2)])
    report = ingest()
    assert (report.rows, report.quarantined, report.dead) == (2, 2, len(BAD) - 1)
    failed = lake.table(QUARANTINE).read().to_pylist()
    assert [(row["offset"], row["raw"], row["reason"]) for row in failed] == [
        ("4", BAD[3], "distance is missing"),
        ("5", BAD[4], "distance is not in [1, 6000]"),
    ]
    dead = lake.table(DEAD).read().to_pylist()
    assert [row["raw"] for row in dead] == [*BAD[:3], BAD[5], None]
    assert [row["reason"].split(":")[0] for row in dead] == [
        "not JSON",
        "scheduled_at is no time with a zone",
        "distance should be int64 and is text",
        "not a JSON object but null",
        "the record has no value",
    ]
    assert {(row["key"], row["headers"]) for row in dead} == {(b"key", "[]")}
    assert {(row["source"], row["partition"]) for row in [*failed, *dead]} == {("kafka:departures", "0")}
    told = lake.table(TABLE).history()[-1].properties
    names = ("received", "accepted", "quarantined", "dead", "late", "ignored")
    assert [int(told[f"rayplat.{name}"]) for name in names] == [len(BAD) + 3, 2, 2, len(BAD) - 1, 0, 0]
    received(lake).check({0: len(BAD) + 3})


def test_a_batch_of_bad_records_still_moves_the_offsets(
    ingest: Ingest, lake: Lakehouse, cluster: MockCluster
) -> None:
    produce(cluster.bootstrap, "departures", 0, [b"junk"] * 3)
    assert ingest().offsets == {"0": 3}
    assert ingest().dead == 0
    assert lake.table(TABLE).count() == 0
    assert lake.table(DEAD).count() == 3


def test_batches_become_snapshots(ingest: Ingest, lake: Lakehouse, cluster: MockCluster) -> None:
    produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(100)])
    produce(cluster.bootstrap, "departures", 1, [record(i) for i in range(30)])
    report = ingest()
    assert len(report.snapshots) == 3
    history = lake.table(TABLE).history()
    assert [h.offsets for h in history] == [{"0": 40, "1": 30}, {"0": 80, "1": 30}, {"0": 100, "1": 30}]
    assert [h.properties["rayplat.rows"] for h in history] == ["70", "40", "20"]
    received(lake).check({0: 100, 1: 30})


def crash_at(point: str, times: int) -> Callable[[str], None]:
    left = [times]

    def on_point(here: str) -> None:
        left[0] -= here == point
        if left[0] == 0 and here == point:
            raise CrashError(point)

    return on_point


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_crash_anywhere_loses_and_doubles_nothing(
    ingest: Ingest, lake: Lakehouse, cluster: MockCluster, point: str, times: int
) -> None:
    values = mixture(90, seed=times)
    produce(cluster.bootstrap, "departures", 0, values)
    produce(cluster.bootstrap, "departures", 1, values[:20])
    with pytest.raises(CrashError):
        ingest(on_point=crash_at(point, times))
    more = mixture(15, seed=9)
    produce(cluster.bootstrap, "departures", 1, more)
    ingest()
    received(lake).check({0: len(values), 1: 20 + len(more)})


@pytest.mark.parametrize("mended", [True, False])
def test_checks_that_change_between_crash_and_restart(
    ingest: Ingest, lake: Lakehouse, cluster: MockCluster, mended: bool
) -> None:
    """A verdict that is in the quarantine stays; the rest is judged anew."""
    far = b'{"flight_id": "x", "scheduled_at": "2013-01-01T05:00:00Z", "distance": 60000}'
    produce(cluster.bootstrap, "departures", 0, [record(1), far, b"junk", record(2)])
    strict = departures(checks=[rp.in_range("distance", 1, 2)])
    with pytest.raises(CrashError):
        ingest(on_point=crash_at("after_quarantine_commit", 1))
    ingest(departures(checks=[]) if mended else strict)
    found = received(lake)
    found.check({0: 4})
    assert (0, 1) in found.bad
    assert ((0, 3) in found.good) is mended


def test_two_drivers_one_wins(ingest: Ingest, lake: Lakehouse, cluster: MockCluster) -> None:
    values = mixture(60, seed=3)
    produce(cluster.bootstrap, "departures", 0, values)
    others: list[IngestReport] = []

    def other_driver(point: str) -> None:
        if point == "after_write" and not others:
            others.append(ingest())

    with pytest.raises(ConflictError):
        ingest(on_point=other_driver)
    assert others[0].rows + others[0].quarantined + others[0].dead == len(values)
    received(lake).check({0: len(values)})


def test_a_driver_that_is_overtaken_between_its_commits(
    ingest: Ingest, lake: Lakehouse, cluster: MockCluster
) -> None:
    values = mixture(60, seed=4)
    produce(cluster.bootstrap, "departures", 0, values)
    others: list[IngestReport] = []

    def other_driver(point: str) -> None:
        if point == "after_quarantine_commit" and not others:
            others.append(ingest())

    with pytest.raises(ConflictError):
        ingest(on_point=other_driver)
    received(lake).check({0: len(values)})


class RestartedExecutor(InlineExecutor):
    """A worker that was started again gives a batch that was committed already."""

    def run(self, plans: Sequence[PartitionPlan]) -> Iterator[list[PartitionBatch]]:
        first = next(super().run(plans))
        yield first
        yield first


def test_a_batch_that_begins_elsewhere_is_refused(
    ingest: Ingest, lake: Lakehouse, cluster: MockCluster
) -> None:
    produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(60)])
    with pytest.raises(ConflictError, match="was to go on at 40"):
        ingest(executor=RestartedExecutor())
    ingest()
    received(lake).check({0: 60})


def test_a_topic_that_was_made_anew(ingest: Ingest, cluster: MockCluster) -> None:
    produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(5)])
    ingest()
    with MockCluster() as anew:
        anew.create("departures", 2)
        with pytest.raises(IntegrityError, match="offsets went back"):
            ingest(open_source=partial(KafkaSource, anew.bootstrap, "departures"))


class NamedSource(KafkaSource):
    """A topic that tells which one it is, as brokers with topic ids do."""

    def __init__(self, bootstrap: str, identity: str) -> None:
        super().__init__(bootstrap, "departures", timeout_s=2.0)
        self._identity = identity

    def identity(self) -> str:
        return self._identity


def test_a_topic_made_anew_that_is_longer_already(ingest: Ingest, cluster: MockCluster) -> None:
    """Its offsets would fit; what it says that it is does not."""
    produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(5)])
    ingest(open_source=partial(NamedSource, cluster.bootstrap, "one"))
    produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(5)])
    with pytest.raises(IntegrityError, match="was made anew: its records were read from one"):
        ingest(open_source=partial(NamedSource, cluster.bootstrap, "other"))
    assert ingest(open_source=partial(NamedSource, cluster.bootstrap, "one")).rows == 5


def test_a_longer_topic_that_does_not_tell_what_it_is(
    ingest: Ingest, lake: Lakehouse, cluster: MockCluster
) -> None:
    """The record in front of the committed offset is another one."""
    produce(cluster.bootstrap, "departures", 0, [record(i) for i in range(5)])
    ingest()
    with MockCluster() as anew:
        anew.create("departures", 2)
        produce(anew.bootstrap, "departures", 0, [record(i + 100) for i in range(9)])
        with pytest.raises(IntegrityError, match="the record at offset 4 of partition 0 is another one"):
            ingest(open_source=partial(KafkaSource, anew.bootstrap, "departures"))
    received(lake).check({0: 5})
    with MockCluster() as same:
        same.create("departures", 2)
        produce(same.bootstrap, "departures", 0, [record(i) for i in range(9)])
        assert ingest(open_source=partial(KafkaSource, same.bootstrap, "departures")).rows == 4
    received(lake).check({0: 9})


def test_a_topic_with_fewer_partitions(ingest: Ingest, cluster: MockCluster) -> None:
    produce(cluster.bootstrap, "departures", 1, [record(1)])
    ingest()
    with MockCluster() as fewer:
        fewer.create("departures", 1)
        with pytest.raises(IntegrityError, match=r"partition 1 .* is not there any more"):
            ingest(open_source=partial(KafkaSource, fewer.bootstrap, "departures"))


def test_retention_that_passed_the_committed_offset(ingest: Ingest, cluster: MockCluster) -> None:
    produce(cluster.bootstrap, "departures", 0, [record(1)])
    ingest()
    produce(cluster.bootstrap, "departures", 0, [b"x" * 900_000] * 9)
    with pytest.raises(IntegrityError, match="removed before they were read"):
        ingest()


def test_a_broker_that_is_away(ingest: Ingest, cluster: MockCluster) -> None:
    gone = partial(KafkaSource, "127.0.0.1:1", "departures", timeout_s=0.3)
    with pytest.raises(UnavailableError):
        ingest(open_source=gone)
    produce(cluster.bootstrap, "departures", 0, [record(1)])
    assert ingest().rows == 1


def test_a_table_without_a_topic(ingest: Ingest) -> None:
    with pytest.raises(UserError, match="is not fed by a stream"):
        ingest(replace(departures(), source=None))


def test_a_new_column_is_filled_from_then_on(ingest: Ingest, lake: Lakehouse, cluster: MockCluster) -> None:
    produce(cluster.bootstrap, "departures", 0, [record(1)])
    ingest()
    table = departures()
    wider = replace(table, columns={**table.columns, "gate": rp.Column("string")})
    produce(cluster.bootstrap, "departures", 0, [record(2)[:-1] + b', "gate": "B7"}'])
    ingest(wider)
    rows = sorted(lake.table(TABLE).read().to_pylist(), key=lambda row: row["_offset"])
    assert [row["gate"] for row in rows] == [None, "B7"]


def test_a_whole_project(lake: Lakehouse, settings: Settings, cluster: MockCluster) -> None:
    cluster.create("events", 1)
    produce(cluster.bootstrap, "events", 0, [b'{"id": "a"}'])
    project = rp.Project("p", owner="a@example.com")
    project.table("raw.events", columns={"id": "string"}, key="id", source=rp.Kafka("events"))
    rows = pl.DataFrame({"id": ["x", "y"]}).to_arrow()
    project.table("raw.things", columns={"id": "string"}, key="id", source=rp.Reference(lambda: rows))
    project.table("raw.derived", columns={"id": "string"}, key="id")
    ready = settings.model_copy(update={"kafka": KafkaSettings(bootstrap=cluster.bootstrap)})
    reports = ingest_project(lake, project, ready, EventBus(), executor=INLINE)
    assert [(r.table, r.rows) for r in reports] == [("raw.events", 1), ("raw.things", 2)]
    assert lake.exists("raw.derived")
    again = ingest_project(lake, project, ready, EventBus(), executor=INLINE)
    assert [r.snapshots for r in again] == [(), ()]

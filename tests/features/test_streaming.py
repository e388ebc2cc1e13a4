"""Online values that follow the ingest: from commits, through failures and restarts."""

import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

import polars as pl
import pytest

import rayplat as rp
from rayplat.core.errors import ConflictError, IntegrityError, NotFoundError, UnavailableError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.features.streaming import OnlineFollower, followed

project = rp.Project("followed", owner="tests@example.com")
COLUMNS = {"entity": "string", "at": "timestamp", "x": "float64"}


def table(name, source):
    return project.table(name, columns=COLUMNS, key=("entity", "at"), event_time="at", source=source)


def view(name, source):
    return project.feature_view(name, source=source, entity="entity", features={"x": pl.col("x")})


FED = table("raw.fed", rp.Kafka("fed"))
OTHER = table("raw.other", rp.Kafka("other"))
PLAIN = table("raw.plain", None)
VIEWS = [view("one", FED), view("two", FED), view("three", OTHER)]
view("still", PLAIN)


class Bring:
    """Notes what is asked of it; fails as it is told to."""

    def __init__(self, *faults: BaseException | None, takes: float = 0.0) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.faults = list(faults)
        self.takes = takes
        self.threads: set[str] = set()

    def __call__(self, views):
        self.calls.append(tuple(v.name for v in views))
        self.threads.add(threading.current_thread().name)
        time.sleep(self.takes)
        if self.faults and (fault := self.faults.pop(0)) is not None:
            raise fault
        return []


def committed(name="raw.fed"):
    return SnapshotCommitted(table=name, snapshot_id=1, rows=1, source="kafka", offsets={"0": 1})


def test_views_over_tables_that_are_fed_are_followed():
    assert [v.name for v in followed(project)] == ["one", "two", "three"]


def test_what_was_committed_before_the_start_is_caught_up():
    bring = Bring()
    with OnlineFollower(VIEWS, bring, EventBus()) as follower:
        assert follower.settle(5)
    assert bring.calls == [("one", "two"), ("three",)]


def test_a_commit_brings_the_views_of_its_table_up_on_another_thread():
    bus, bring = EventBus(), Bring()
    with OnlineFollower(VIEWS, bring, bus) as follower:
        assert follower.settle(5)
        bus.emit(committed("raw.other"))
        assert follower.settle(5)
        bus.emit(committed("raw.unknown"))
    assert bring.calls[2:] == [("three",)]
    assert bring.threads == {"online-follower"}


def test_the_ingest_never_waits_and_commits_are_taken_together():
    bus, bring = EventBus(), Bring(takes=0.05)
    with OnlineFollower(VIEWS[:1], bring, bus) as follower:
        begin = time.perf_counter()
        for _ in range(1_000):
            bus.emit(committed())
        assert time.perf_counter() - begin < 0.5
        assert follower.settle(5)
    assert 2 <= len(bring.calls) <= 10


def test_what_does_not_answer_is_tried_again():
    bring = Bring(UnavailableError("down", "wait"), ConflictError("other", "again"))
    with OnlineFollower(VIEWS[:1], bring, EventBus()) as follower:
        assert follower.settle(10)
    assert len(bring.calls) == 3


def test_a_table_that_is_not_there_yet_waits_for_its_first_commit():
    bus, bring = EventBus(), Bring(NotFoundError("no table", "wait"))
    with OnlineFollower(VIEWS[:1], bring, bus) as follower:
        assert follower.settle(5)
        bus.emit(committed())
    assert len(bring.calls) == 2


def test_any_other_error_ends_the_following_and_is_raised_at_the_end():
    bus, bring = EventBus(), Bring(IntegrityError("made anew", "start again"))
    follower = OnlineFollower(VIEWS[:1], bring, bus).start()
    assert not follower.settle(5)
    bus.emit(committed())
    with pytest.raises(IntegrityError, match="made anew"):
        follower.close()
    assert len(bring.calls) == 1


def test_an_error_of_the_ingest_is_not_hidden_by_one_of_the_following():
    bring = Bring(IntegrityError("made anew", "start again"))
    with pytest.raises(UnavailableError, match="ingest"), OnlineFollower(VIEWS[:1], bring, EventBus()):
        raise UnavailableError("the ingest", "wait")


def test_what_is_tried_for_ever_does_not_hold_the_end_up():
    follower = OnlineFollower(VIEWS[:1], Bring(*[UnavailableError("down", "wait")] * 99), EventBus()).start()
    begin = time.monotonic()
    follower.close(0.2)
    assert time.monotonic() - begin < 2


def test_from_a_topic_to_the_online_value_and_after_a_restart(tmp_path):
    from functools import partial

    from rayplat.core.settings import IngestSettings, KafkaSettings, Settings
    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.data.streaming.development.mock_cluster import MockCluster
    from rayplat.data.streaming.readers import InlineReaders
    from rayplat.data.streaming.service import IngestService
    from rayplat.features.materialize import materialize
    from rayplat.features.online.opening import open_online
    from rayplat.features.serving import get_online_features
    from tests.data.worlds import produce

    def value():
        with suppress(NotFoundError):
            found = get_online_features(online, VIEWS[:1], [{"entity": "a"}], datetime.now(UTC))
            return found.frame["one__x"][0]
        return None

    def ingest_until(expected, follow):
        bus, lake = EventBus(), Lakehouse(settings)
        commits = []
        bus.subscribe(SnapshotCommitted, commits.append)
        service = IngestService(Lakehouse(settings), settings, bus, readers=InlineReaders)
        thread = threading.Thread(target=service.feed, args=([FED],))
        follower = OnlineFollower(VIEWS[:2], partial(materialize, lake, online), bus)
        if follow:
            follower.start()
        thread.start()
        end = time.monotonic() + 20
        while time.monotonic() < end and (value() != expected if follow else not commits):
            time.sleep(0.01)
        service.stop()
        thread.join()
        if follow:
            follower.close()
        lake.close()

    def event(x):
        return b'{"entity": "a", "at": "2025-01-01T00:00:0%d.000Z", "x": %d}' % (x, x)

    with MockCluster() as cluster:
        cluster.create("fed", 1)
        settings = Settings(
            home=tmp_path,
            kafka=KafkaSettings(bootstrap=cluster.bootstrap),
            ingest=IngestSettings(poll_timeout_s=2, trigger_s=0.05),
        )
        online = open_online(settings)
        produce(cluster.bootstrap, "fed", 0, [event(1)])
        ingest_until(1.0, follow=True)
        assert value() == 1.0
        # Nobody follows this commit: the next start catches it up.
        produce(cluster.bootstrap, "fed", 0, [event(2)])
        ingest_until(None, follow=False)
        assert value() == 1.0
        ingest_until(2.0, follow=True)
        assert value() == 2.0
        online.close()

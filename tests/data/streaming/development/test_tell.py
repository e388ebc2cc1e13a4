"""The teller: the same events at the same offsets, however often, and never too far ahead."""

import json
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from rayplat.core.errors import IntegrityError, UserError
from rayplat.core.project.table import Table
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.development.story import Story
from rayplat.data.streaming.development.tell import Teller
from rayplat.data.streaming.formats.json_records import decode
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.source import Limit
from tests.data.worlds import departures, recording

BEGIN = datetime(2013, 1, 1, tzinfo=UTC)
END = BEGIN + timedelta(days=9)


def nothing(_table: str) -> Mapping[str, int]:
    return {}


def at(**offsets: int) -> Callable[[str], Mapping[str, int]]:
    return lambda _table: {name.removeprefix("p"): offset for name, offset in offsets.items()}


def told(events: int) -> Table:
    return departures(replay=lambda: recording(events))


def log(bootstrap: str) -> list[list[bytes | None]]:
    with KafkaSource(bootstrap, "departures") as source:
        return [
            list(source.read(p, mark.low, Limit(10**9, 10**9)).values)
            for p, mark in source.watermarks().items()
        ]


def test_events_are_told_in_order_and_once(cluster: MockCluster) -> None:
    cluster.create("departures", 2)
    teller = Teller(cluster.bootstrap, [told(100)])
    assert teller.tell(BEGIN + timedelta(seconds=40), nothing).events == 40
    assert teller.tell(BEGIN + timedelta(seconds=40), nothing).events == 0
    assert teller.tell(END, nothing) == teller.tell(END, nothing).__class__(60, done=True)
    partitions = log(cluster.bootstrap)
    numbers = [[int(json.loads(v or b"")["flight_id"][2:]) for v in p] for p in partitions]
    assert all(n == sorted(n) for n in numbers)
    assert sorted(numbers[0] + numbers[1]) == list(range(100))
    assert min(map(len, numbers)) > 25, "both partitions get their share"
    teller.close()


def test_what_is_told_can_be_read(cluster: MockCluster) -> None:
    cluster.create("departures", 2)
    table = told(50)
    Teller(cluster.bootstrap, [table]).tell(END, nothing)
    rows = [row for p in log(cluster.bootstrap) for row in decode(p, table.columns).frame.rows()]
    expected = [tuple(row[name] for name in table.columns) for row in recording(50).to_pylist()]
    assert sorted(rows) == sorted(expected)


def test_telling_again_to_a_new_broker_gives_the_same_log() -> None:
    logs = []
    for steps in ([END], [BEGIN + timedelta(seconds=3), BEGIN + timedelta(seconds=77), END]):
        with MockCluster() as cluster:
            cluster.create("departures", 2)
            for until in steps:
                teller = Teller(cluster.bootstrap, [told(200)])
                teller.tell(until, nothing)
                teller.close()
            logs.append(log(cluster.bootstrap))
    assert logs[0] == logs[1]


def test_telling_again_goes_past_what_is_committed(cluster: MockCluster) -> None:
    cluster.create("departures", 2)
    teller = Teller(cluster.bootstrap, [told(100)])
    teller.tell(BEGIN, at(p0=20, p1=31))
    assert [len(p) for p in log(cluster.bootstrap)] == [20, 31]


def test_the_teller_waits_for_the_ingest_and_nothing_that_is_needed_is_dropped(cluster: MockCluster) -> None:
    """Values that do not compress: 24 MB of them, where the broker keeps 5 MB a partition."""
    rng = random.Random(1)
    count = 24_000
    rows = recording(count).set_column(
        0, "flight_id", pa.array([rng.randbytes(500).hex() for _ in range(count)])
    )
    cluster.create("departures", 2)
    teller = Teller(cluster.bootstrap, [departures(replay=lambda: rows)])
    committed = {"0": 0, "1": 0}
    ingested: list[bytes | None] = []
    with KafkaSource(cluster.bootstrap, "departures") as source:
        rounds, done = 0, False
        while not done:
            rounds += 1
            result = teller.tell(END, lambda _table: committed)
            for partition, mark in source.watermarks().items():
                start = committed[str(partition)]
                assert mark.low <= start, "what is committed is still there"
                records = source.read(partition, start, Limit(mark.high, 10**9))
                ingested += records.values
                committed[str(partition)] = records.next_offset
            done = result.done
    assert rounds >= 3
    assert len(ingested) == len(set(ingested)) == count
    with MockCluster() as anew:
        anew.create("departures", 2)
        again = Teller(anew.bootstrap, [departures(replay=lambda: rows)])
        again.tell(BEGIN, lambda _table: committed)
        with KafkaSource(anew.bootstrap, "departures") as source:
            assert all(m.low <= committed[str(p)] <= m.high for p, m in source.watermarks().items())
            assert all(m.low > 0 for m in source.watermarks().values()), "the head was dropped"


def test_one_huge_event_is_told_all_the_same(cluster: MockCluster) -> None:
    cluster.create("departures", 2)
    rows = recording(4)
    huge = [random.Random(i).randbytes(400_000).hex() for i in range(4)]
    rows = rows.set_column(0, "flight_id", pa.array(huge))
    teller = Teller(cluster.bootstrap, [departures(replay=lambda: rows)])
    assert teller.tell(END, nothing).events >= 2


def test_a_recording_that_became_shorter(cluster: MockCluster) -> None:
    cluster.create("departures", 2)
    Teller(cluster.bootstrap, [told(100)]).tell(END, nothing)
    with pytest.raises(IntegrityError, match="the recording has only"):
        Teller(cluster.bootstrap, [told(10)]).tell(END, nothing)
    with pytest.raises(IntegrityError, match="the recording has only"):
        Teller(cluster.bootstrap, [told(100)]).tell(END, at(p0=1000))


def test_wrong_partitions_and_times_are_told(cluster: MockCluster) -> None:
    cluster.create("departures", 3)
    with pytest.raises(UserError, match="has 3 partitions"):
        Teller(cluster.bootstrap, [told(1)]).tell(END, nothing)
    with pytest.raises(UserError, match="no time zone"):
        Teller(cluster.bootstrap, [told(1)]).tell(datetime(2013, 1, 1), nothing)  # noqa: DTZ001


def test_tables_without_a_recording_are_left_out() -> None:
    assert Teller("127.0.0.1:1", [departures()]).tell(END, nothing).events == 0
    with pytest.raises(UserError, match="has no recording"):
        Story(departures())


def test_events_that_never_become_known_are_not_told() -> None:
    rows = recording(10)
    times = rows["scheduled_at"].to_pylist()
    times[3] = None
    rows = rows.set_column(1, "scheduled_at", pa.array(times, pa.timestamp("us", "UTC")))
    story = Story(departures(partitions=1, replay=lambda: rows))
    assert story.total(0) == story.known_before(0, END) == 9


def test_equal_times_are_ordered_by_key_and_place() -> None:
    rows = pa.table(
        {
            "flight_id": ["b", "a", "b", "a"],
            "scheduled_at": pa.array([5, 5, 5, 4], pa.timestamp("us", "UTC")),
            "distance": [1, 2, 3, 4],
            "delay": pa.array([None] * 4, pa.float64()),
            "cancelled": pa.array([None] * 4, pa.bool_()),
        }
    )
    _, values = Story(departures(partitions=1, replay=lambda: rows)).messages(0, 0, 4)
    assert [json.loads(value)["distance"] for value in values] == [4, 2, 1, 3]
    assert json.loads(values[0])["scheduled_at"] == "1970-01-01T00:00:00.000004Z"


@pytest.mark.slow
def test_half_a_million_events_are_told_in_ten_seconds(cluster: MockCluster) -> None:
    cluster.create("departures", 2)
    teller = Teller(cluster.bootstrap, [told(460_000)])
    teller._story(told(460_000))
    begin = time.monotonic()
    partitions = teller._stories["raw.departures"].total(0), teller._stories["raw.departures"].total(1)
    teller.tell(END, at(p0=partitions[0], p1=partitions[1]))
    assert time.monotonic() - begin < 10

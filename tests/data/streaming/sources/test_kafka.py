"""The Kafka reader: the contract of sources on a real protocol, and what only Kafka does."""

import random
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from rayplat.core.errors import IntegrityError, NotFoundError, UnavailableError, UserError
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.source import Limit, RecordMeta, Source
from tests.data.streaming.sources.source_contract import EVERYTHING, SourceContract
from tests.data.worlds import produce


class TestKafka(SourceContract):
    @pytest.fixture
    def source(self, cluster: MockCluster) -> Iterator[Source]:
        cluster.create("topic", 2)
        produce(cluster.bootstrap, "topic", 0, [str(i).encode() for i in range(10)])
        with KafkaSource(cluster.bootstrap, "topic") as source:
            yield source


class TestKafkaByThePythonClient(SourceContract):
    """The reader that the faster one is measured by."""

    @pytest.fixture
    def source(self, cluster: MockCluster) -> Iterator[Source]:
        cluster.create("digits", 2)
        produce(cluster.bootstrap, "digits", 0, [str(i).encode() for i in range(10)])
        with KafkaSource(cluster.bootstrap, "digits", consumer=Consumer) as source:
            yield source


CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.mark.parametrize("codec", CODECS)
def test_both_readers_give_the_same(cluster: MockCluster, codec: str) -> None:
    """Values, offsets, keys, headers and times, however the records were sent."""
    seed = CODECS.index(codec)
    print(f"seed {seed}")
    rng = random.Random(seed)
    cluster.create("mixed", 1)
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "compression.type": codec, "log_level": 0})
    for number in range(3000):
        value = rng.choice([None, b"", b"x", rng.randbytes(rng.randrange(1, 300)), b"%d\n" % number])
        key = rng.choice([None, b"", b"key", rng.randbytes(rng.randrange(1, 90))])
        headers = [("h", rng.choice([None, b"", b"v", b"\xff"])) for _ in range(rng.randrange(3))]
        producer.produce("mixed", value, key, 0, headers=headers, timestamp=1_357_000_000_000 + number)
        if rng.random() < 0.02:
            producer.flush()
    assert producer.flush(10) == 0
    with (
        KafkaSource(cluster.bootstrap, "mixed") as fast,
        KafkaSource(cluster.bootstrap, "mixed", consumer=Consumer) as plain,
    ):
        for start, rows in ((0, 10_000), (17, 500), (2990, 100)):
            limit = Limit(3000, rows)
            ours, theirs = fast.read(0, start, limit), plain.read(0, start, limit)
            assert ours == theirs
            assert [v == w for v, w in zip(ours.values, theirs.values, strict=True)] == [True] * len(
                ours.offsets
            )
            assert ours.describe is not None
            assert theirs.describe is not None
            for index in range(len(ours.offsets)):
                assert ours.describe(index) == theirs.describe(index)


def test_what_stands_beside_a_record(cluster: MockCluster) -> None:
    cluster.create("one", 1)
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    at = datetime(2013, 1, 1, 5, tzinfo=UTC)
    stamp = int(at.timestamp() * 1000)
    producer.produce("one", b"v", b"k", 0, headers=[("a", b"1"), ("a", None)], timestamp=stamp)
    assert producer.flush(10) == 0
    with KafkaSource(cluster.bootstrap, "one") as source:
        records = source.read(0, 0, Limit(1, 10))
        assert records.describe is not None
        assert records.describe(0) == RecordMeta(b"k", (("a", b"1"), ("a", None)), at)


def test_an_option_that_is_none() -> None:
    source = KafkaSource("127.0.0.1:1", "topic", {"no.such.option": "1"})
    with pytest.raises(UserError, match=r"refuses the option no\.such\.option"):
        source.read(0, 0, Limit(1, 1))


def test_the_name_does_not_change_with_the_brokers() -> None:
    assert KafkaSource("a:1", "topic").name == KafkaSource("b:2", "topic").name == "kafka:topic"


def test_a_record_without_a_value(cluster: MockCluster) -> None:
    cluster.create("topic", 1)
    produce(cluster.bootstrap, "topic", 0, [b"a", None, b""])
    with KafkaSource(cluster.bootstrap, "topic") as source:
        assert source.read(0, 0, EVERYTHING).values == [b"a", None, b""]


def test_many_records_are_read_in_parts_without_waits(cluster: MockCluster) -> None:
    cluster.create("topic", 1)
    produce(cluster.bootstrap, "topic", 0, [b"%d" % i for i in range(50_000)])
    begin = time.monotonic()
    with KafkaSource(cluster.bootstrap, "topic") as source:
        position, offsets = 0, []
        while position < 50_000:
            records = source.read(0, position, Limit(50_000, 7_000))
            offsets += records.offsets
            position = records.next_offset
    assert offsets == list(range(50_000))
    assert time.monotonic() - begin < 5


def test_removed_records_are_an_error_not_a_gap(cluster: MockCluster) -> None:
    cluster.create("topic", 1)
    produce(cluster.bootstrap, "topic", 0, [b"x" * 900_000] * 8)
    with KafkaSource(cluster.bootstrap, "topic") as source:
        low = source.watermarks()[0].low
        assert low > 0, "the broker keeps about 5 MB"
        with pytest.raises(IntegrityError, match=f"{low} records were removed before they were read"):
            source.read(0, 0, EVERYTHING)
        assert len(source.read(0, low, EVERYTHING).values) == 8 - low


def test_no_such_topic(cluster: MockCluster) -> None:
    cluster.create("there", 1)
    with KafkaSource(cluster.bootstrap, "nowhere") as source, pytest.raises(NotFoundError, match="nowhere"):
        source.partitions()


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    begin = time.monotonic()
    with (
        KafkaSource(address, "topic", timeout_s=0.5) as source,
        pytest.raises(UnavailableError, match=address),
    ):
        source.watermarks()
    assert time.monotonic() - begin < 3


def test_a_broker_that_dies_while_it_is_read(cluster: MockCluster) -> None:
    cluster.create("topic", 1)
    produce(cluster.bootstrap, "topic", 0, [b"a"])
    with KafkaSource(cluster.bootstrap, "topic", timeout_s=0.5) as source:
        source.read(0, 0, Limit(1, 1))
        cluster.close()
        with pytest.raises(UnavailableError, match=r"silent for 0\.5 s"):
            source.read(0, 1, EVERYTHING)


class FakeMessage:
    def __init__(self, offset: int, value: bytes | None = b"x", code: int | None = None) -> None:
        self._offset, self._value = offset, value
        self._error = KafkaError(code) if code is not None else None

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value

    def error(self) -> KafkaError | None:
        return self._error


class FakeConsumer:
    """A partition with transactions: some offsets are markers, which are passed and never delivered."""

    def __init__(self, log: dict[int, bytes], high: int, stable: int | None = None) -> None:
        self.log, self.high, self.stable = log, high, high if stable is None else stable
        self.at = 0
        self.told_end = False

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.at, self.told_end = partitions[0].offset, False

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        return 0, self.high

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(partitions[0].topic, partitions[0].partition, self.at)]

    def consume(self, count: int, timeout: float) -> list[FakeMessage]:
        messages: list[FakeMessage] = []
        while self.at < self.stable and len(messages) < count:
            if self.at in self.log:
                messages.append(FakeMessage(self.at, self.log[self.at]))
            self.at += 1
        if self.at == self.stable and not self.told_end and len(messages) < count:
            self.told_end = True
            messages.append(FakeMessage(self.at, code=KafkaError._PARTITION_EOF))
        return messages

    def close(self) -> None:
        self.log = {}


def transactional(consumer: FakeConsumer) -> KafkaSource:
    return KafkaSource("fake:1", "topic", consumer=lambda _: consumer, timeout_s=0.5)


def test_a_marker_at_the_end_does_not_hang_the_read() -> None:
    source = transactional(FakeConsumer({0: b"a", 1: b"b"}, high=3))
    records = source.read(0, 0, Limit(until=3, rows=100))
    assert (records.values, records.next_offset) == ([b"a", b"b"], 3)


def test_only_markers_are_passed() -> None:
    records = transactional(FakeConsumer({}, high=4)).read(0, 2, Limit(until=4, rows=100))
    assert (records.values, records.next_offset) == ([], 4)


def test_records_behind_the_end_are_left_for_the_next_read() -> None:
    """A marker among them makes the client deliver further than was counted."""
    source = transactional(FakeConsumer({0: b"a", 2: b"c", 3: b"d"}, high=4))
    first = source.read(0, 0, Limit(until=2, rows=100))
    assert (first.values, first.next_offset) == ([b"a"], 2)
    second = source.read(0, 2, Limit(until=4, rows=100))
    assert (second.values, list(second.offsets)) == ([b"c", b"d"], [2, 3])


def test_an_open_transaction_is_not_read_past() -> None:
    source = transactional(FakeConsumer({0: b"a", 1: b"b"}, high=2, stable=1))
    records = source.read(0, 0, Limit(until=2, rows=100))
    assert (records.values, records.next_offset) == ([b"a"], 1)
    again = source.read(0, 1, Limit(until=2, rows=100))
    assert (again.values, again.next_offset) == ([], 1)


def test_an_offset_that_is_gone_while_reading() -> None:
    consumer = FakeConsumer({}, high=5)
    consumer.consume = lambda *_: [FakeMessage(0, code=KafkaError._AUTO_OFFSET_RESET)]  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="no record at offset 0 any more"):
        transactional(consumer).read(0, 0, Limit(until=5, rows=100))


def test_a_refusal_is_told() -> None:
    consumer = FakeConsumer({}, high=5)
    consumer.consume = lambda *_: [FakeMessage(0, code=KafkaError.TOPIC_AUTHORIZATION_FAILED)]  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="does not answer"):
        transactional(consumer).read(0, 0, Limit(until=5, rows=100))

"""The class `replicated` on Kafka: a topic of librdkafka's own broker, and a producer that fails."""

from concurrent.futures import wait
from dataclasses import replace
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, Producer

from rayplat.core.errors import ConflictError, IntegrityError, UnavailableError, UserError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.topic_log import TopicLog
from rayplat.serve.log.rows import TABLE
from rayplat.serve.log.topic import KafkaLog, ship_topic
from rayplat.serve.prediction_log import PredictionLog, open_prediction_log
from tests.serve.logs import record

TOPIC = "rayplat-predictions"


@pytest.fixture
def broker():
    with MockCluster() as cluster:
        cluster.create(TOPIC, 3)
        yield cluster


@pytest.fixture
def settings(broker, tmp_path):
    kafka = {"bootstrap": broker.bootstrap}
    return Settings.model_validate(
        {"home": tmp_path, "kafka": kafka, "serve": {"log": "replicated", "log_copies": 1}}
    )


@pytest.fixture
def lake(settings):
    house = Lakehouse(settings)
    yield house
    house.close()


def _in_lake(lake):
    return sorted(lake.table(TABLE).read(columns=["prediction_id"])["prediction_id"].to_pylist())


def test_what_brokers_acknowledged_is_in_the_table_once(settings, lake):
    told, bus = [], EventBus()
    bus.subscribe(SnapshotCommitted, told.append)
    log = open_prediction_log(settings)
    records = [record(i) for i in range(300)]
    futures = [log.submit([one]) for one in records]
    wait(futures, 20)
    assert [f.exception() for f in futures] == [None] * 300
    assert PredictionLog(settings).drain(lake, settings, bus).rows == 300
    more = record(7)
    log.append([more])
    log.close()
    log.close()
    with pytest.raises(UnavailableError, match="closed"):
        log.submit([record()])
    assert PredictionLog(settings).drain(lake, settings, bus).rows == 1
    assert PredictionLog(settings).drain(lake, settings, bus).rows == 0
    assert _in_lake(lake) == sorted(r.prediction_id for r in [*records, more])
    assert [e.rows for e in told] == [300, 1]


def test_an_answer_of_many_instances_is_several_records(settings, lake, broker):
    log = open_prediction_log(settings)
    records = [replace(record(i), features='{"x":"' + "y" * 4000 + '"}') for i in range(600)]
    log.append(records)
    with pytest.raises(UserError, match="does not fit"):
        log.append([replace(record(), request="x" * 1_000_000)])
    log.close()
    with KafkaSource(broker.bootstrap, TOPIC) as source:
        assert sum(mark.high for mark in source.watermarks().values()) == 4
    PredictionLog(settings).drain(lake, settings, EventBus())
    assert _in_lake(lake) == sorted(r.prediction_id for r in records)


def test_of_two_shippers_at_once_the_later_is_refused(settings, lake, broker):
    log = open_prediction_log(settings)
    log.append([record(), record()])
    log.close()

    class Slow(KafkaSource):
        def read(self, partition, start, limit):
            found = super().read(partition, start, limit)
            with KafkaSource(broker.bootstrap, TOPIC) as other:
                ship_topic(other, lake, EventBus())
            return found

    with Slow(broker.bootstrap, TOPIC) as slow, pytest.raises(ConflictError):
        ship_topic(slow, lake, EventBus())
    assert len(_in_lake(lake)) == 2


def test_what_is_no_prediction_is_passed_by_and_told(settings, lake, broker):
    log = open_prediction_log(settings)
    log.append([record()])
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for value in (b"{}", b"\xff", None, b'[{"prediction_id":1}]'):
        producer.produce(TOPIC, value, partition=1)
    producer.flush(10)
    log.append([record()])
    log.close()
    with pytest.raises(IntegrityError, match="partition 1 offset"):
        PredictionLog(settings).drain(lake, settings, EventBus())
    assert len(_in_lake(lake)) == 2
    assert PredictionLog(settings).drain(lake, settings, EventBus()).rows == 0


class _Failing:
    """A producer whose records are acknowledged as `fate` has it."""

    def __init__(self, fate):
        self._fate = fate
        self._waiting = []

    def produce(self, _topic, _payload, on_delivery):
        if self._fate == "full":
            raise BufferError("queue full")
        self._waiting.append(on_delivery)

    def poll(self, _seconds):
        waiting, self._waiting = self._waiting, []
        for number, told in enumerate(waiting):
            told(KafkaError(KafkaError._MSG_TIMED_OUT) if number == 0 else None, None)

    def flush(self, _seconds):
        self.poll(0)


@pytest.mark.parametrize("fate", ["full", "late"])
def test_a_prediction_that_is_not_acknowledged_is_told_so(broker, fate):
    topic = TopicLog(broker.bootstrap, TOPIC, copies=1, producer=lambda _: _Failing(fate))
    log = KafkaLog(topic)
    with pytest.raises(UnavailableError, match="did not take"):
        log.append([record()])
    log.close()


def test_brokers_that_are_away_are_told_before_anything_is_answered(tmp_path):
    topic = TopicLog("127.0.0.1:1", TOPIC, timeout_s=0.3)
    with pytest.raises(UnavailableError, match="did not take"):
        topic.open()
    topic.close()


class _Admin:
    """An admin client of a topic with replicas, and with so many that must be in sync."""

    def __init__(self, replicas, in_sync):
        self._replicas, self._in_sync = replicas, in_sync

    def list_topics(self, topic, timeout):
        partition = SimpleNamespace(replicas=list(range(self._replicas)))
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions={0: partition})})

    def describe_configs(self, asked, request_timeout):
        told = {"min.insync.replicas": SimpleNamespace(value=str(self._in_sync))}
        return {one: SimpleNamespace(result=lambda _timeout: told) for one in asked}


@pytest.mark.parametrize(("replicas", "in_sync", "good"), [(3, 2, True), (3, 1, False), (1, 2, False)])
def test_a_topic_must_have_the_copies_that_the_class_promises(replicas, in_sync, good):
    topic = TopicLog(
        "broker:9092",
        TOPIC,
        copies=2,
        producer=lambda _: _Failing("late"),
        admin=lambda _: _Admin(replicas, in_sync),
    )
    if good:
        topic.open()
    else:
        with pytest.raises(UserError, match="acknowledges with 1 copies"):
            topic.open()
    topic.close()

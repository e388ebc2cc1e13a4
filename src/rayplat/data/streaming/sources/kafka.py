"""Kafka as a source: bounded reads of one partition, with every way to hang or to skip closed.

Knows what is asked of a broker and what its errors mean; it does not know what a record means, nor which
offsets are committed. Records are read by librdkafka's C interface (see `librdkafka`); the Python client
answers what is asked seldom.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException

from rayplat.core.errors import IntegrityError, NotFoundError, RayplatError, UnavailableError
from rayplat.data.streaming.report import topic_source
from rayplat.data.streaming.sources.client import ClientConsumer, ClientMessages
from rayplat.data.streaming.sources.kafka_records import Taken
from rayplat.data.streaming.sources.librdkafka import Messages, NativeConsumer
from rayplat.data.streaming.sources.source import (
    Limit,
    PartitionId,
    Records,
    Watermarks,
    check_start,
)

_SLICE_S = 0.1
_MOST_AT_ONCE = 200_000
_TRANSIENT = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
    }
)
_UNKNOWN = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
)
_OUT_OF_RANGE = frozenset({KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET})


class KafkaSource:
    """A Kafka topic.

    A consumer is made at first use and kept: consecutive reads of a partition continue in its
    buffers. It joins no group and commits nothing to Kafka: the lakehouse holds the offsets. What
    `Records.describe` tells can be asked until the next read.

    Args:
        bootstrap: `host:port` of the brokers, comma-separated.
        topic: the topic's name.
        options: further librdkafka options, such as `sasl.username`.
        timeout_s: the longest wait for a broker that is silent, s.
        consumer: makes the Python client's consumer from librdkafka's configuration, and records are
            read by it too; if None, by librdkafka's C interface. A seam for tests.
    """

    wide = False

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        options: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 10.0,
        consumer: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.options = dict(options or {})
        self.timeout_s = timeout_s
        self._make = consumer
        self._made: Any = None
        self._reading: NativeConsumer | ClientConsumer | None = None
        self._held: list[Messages | ClientMessages] = []
        self._at: tuple[int, int] | None = None
        self._trouble = ""

    @property
    def name(self) -> str:
        """`kafka:` and the topic; not the brokers, whose addresses change."""
        return topic_source(self.topic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the consumers; the next use makes others."""
        self._release()
        if self._reading is not None:
            self._reading.close()
        if self._made is not None:
            self._made.close()
        self._made, self._reading, self._at = None, None, None

    def _configuration(self) -> dict[str, Any]:
        return {
            "fetch.wait.max.ms": 20,
            # After a full queue librdkafka would sleep a second before it fetches again.
            "fetch.queue.backoff.ms": 2,
            "queued.min.messages": 200_000,
            "max.partition.fetch.bytes": 8 * 1024 * 1024,
            **self.options,
            "bootstrap.servers": self.bootstrap,
            "group.id": "rayplat-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            # The end of a partition is told, so a marker that is never delivered cannot hang us.
            "enable.partition.eof": True,
            # An offset that is gone is an error: skipping to what is left would lose records.
            "auto.offset.reset": "error",
            "check.crcs": True,
            # A broker that is away is told once, as an error of ours, and not every 50 ms.
            "log_level": 0,
        }

    @property
    def _consumer(self) -> Any:
        """The Python client's consumer."""
        if self._made is None:
            make = self._make or Consumer
            self._made = make({**self._configuration(), "error_cb": self._note})
        return self._made

    @property
    def _reader(self) -> NativeConsumer | ClientConsumer:
        """What records are read by."""
        if self._reading is None and self._make is not None:
            self._reading = ClientConsumer(self._consumer)
        elif self._reading is None:
            self._reading = NativeConsumer({k: _text(v) for k, v in self._configuration().items()})
        return self._reading

    def partitions(self) -> list[PartitionId]:
        """The partitions, sorted.

        Raises:
            NotFoundError: there is no such topic.
            UnavailableError: no broker answers within the timeout.
        """
        try:
            found = self._consumer.list_topics(self.topic, timeout=self.timeout_s).topics[self.topic]
        except KafkaException as error:
            self._fail(error.args[0].code(), error.args[0].str())
        if found.error is not None:
            self._fail(found.error.code(), found.error.str())
        return sorted(found.partitions)

    def watermarks(self) -> dict[PartitionId, Watermarks]:
        """What each partition holds now.

        Raises:
            NotFoundError: there is no such topic.
            UnavailableError: no broker answers within the timeout.
        """
        asked = ClientConsumer(self._consumer)
        return {partition: self._watermarks(asked, int(partition)) for partition in self.partitions()}

    def _watermarks(self, asked: NativeConsumer | ClientConsumer, partition: int) -> Watermarks:
        found = asked.watermarks(self.topic, partition, self.timeout_s)
        if isinstance(found, int):
            self._fail(found, KafkaError(found).str())
        return Watermarks(*found)

    def read(self, partition: PartitionId, start: int, limit: Limit) -> Records:
        """Read from `start` until the limit or the end of the partition, whichever comes first.

        Raises:
            IntegrityError: records from `start` on are not there any more.
            UnavailableError: no record and no end of the partition within the timeout.
        """
        number, reader = int(partition), self._reader
        self._release()
        if self._at != (number, start):
            check_start(self.name, number, start, self._watermarks(reader, number))
            reader.assign(self.topic, number, start)
        self._at = None
        taken = Taken(start)
        position = start
        heard = time.monotonic()
        while position < limit.until and taken.count < limit.rows:
            wanted = min(limit.rows - taken.count, limit.until - position, _MOST_AT_ONCE)
            messages = reader.consume(wanted, _SLICE_S)
            self._held.append(messages)
            if len(messages):
                ended = self._take(messages, start, taken)
                position = max(reader.position(self.topic, number), taken.next)
                if ended is not None:
                    return taken.records(max(position, ended), limit)
                if taken.count:
                    heard = time.monotonic()
            if time.monotonic() - heard > self.timeout_s:
                self._silent()
        if taken.next <= limit.until:
            self._at = (number, position)
        return taken.records(position, limit)

    def _take(self, messages: Messages | ClientMessages, start: int, taken: "Taken") -> int | None:
        """Put the records into `taken`; returns the end of the partition if it was told."""
        failed = np.flatnonzero(messages.errors)
        ended = None
        for index in failed.tolist():
            code = int(messages.errors[index])
            if code == KafkaError._PARTITION_EOF:
                ended = int(messages.offsets[index])
            elif code in _OUT_OF_RANGE:
                raise IntegrityError(
                    f"{self.name} has no record at offset {start} any more: {messages.text(index)}",
                    "its retention is too short, or the topic was made anew; see the committed offsets",
                )
            elif code in _TRANSIENT:
                self._trouble = f"; last heard: {messages.text(index)}"
            else:
                self._fail(code, messages.text(index))
        taken.add(messages, messages.errors == 0 if len(failed) else None)
        return ended

    def _release(self) -> None:
        for messages in self._held:
            messages.release()
        self._held = []

    def _note(self, error: Any) -> None:
        self._trouble = f"; last heard: {error.str()}"

    def _silent(self) -> NoReturn:
        raise UnavailableError(
            f"{self.name} at {self.bootstrap} was silent for {self.timeout_s:g} s{self._trouble}",
            "see that the broker runs and that kafka.bootstrap is right",
        )

    def _fail(self, code: int, text: str) -> NoReturn:
        raise _translated(code, text, self)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _translated(code: int, text: str, source: KafkaSource) -> RayplatError:
    if code in _UNKNOWN:
        return NotFoundError(
            f"there is no topic {source.topic!r} at {source.bootstrap}",
            "create it, or correct the table's source",
        )
    return UnavailableError(
        f"{source.name} at {source.bootstrap} does not answer: {text}",
        "see that the broker runs and that kafka.bootstrap and kafka.options are right",
    )

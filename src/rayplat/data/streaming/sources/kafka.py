"""Kafka as a source: bounded reads of one partition, with every way to hang or to skip closed.

Knows librdkafka's consumer; it does not know what a record means, nor which offsets are committed.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from rayplat.core.errors import IntegrityError, NotFoundError, RayplatError, UnavailableError
from rayplat.data.streaming.report import topic_source
from rayplat.data.streaming.sources.source import Limit, Records, Watermarks, check_start

_SLICE_S = 0.1
_MOST_AT_ONCE = 20_000
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

    One consumer is made at first use and kept: consecutive reads of a partition continue in its
    buffers. It joins no group and commits nothing to Kafka: the lakehouse holds the offsets.

    Args:
        bootstrap: `host:port` of the brokers, comma-separated.
        topic: the topic's name.
        options: further librdkafka options, such as `sasl.username`.
        timeout_s: the longest wait for a broker that is silent, s.
        consumer: makes the consumer from librdkafka's configuration; a seam for tests.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        options: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 10.0,
        consumer: Callable[[dict[str, Any]], Any] = Consumer,
    ) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.options = dict(options or {})
        self.timeout_s = timeout_s
        self._make = consumer
        self._made: Any = None
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
        """Close the consumer; the next use makes another."""
        if self._made is not None:
            self._made.close()
            self._made, self._at = None, None

    @property
    def _consumer(self) -> Any:
        if self._made is None:
            self._made = self._make(
                {
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
                    "error_cb": self._note,
                }
            )
        return self._made

    def partitions(self) -> list[int]:
        """The partitions, sorted.

        Raises:
            NotFoundError: there is no such topic.
            UnavailableError: no broker answers within the timeout.
        """
        try:
            found = self._consumer.list_topics(self.topic, timeout=self.timeout_s).topics[self.topic]
        except KafkaException as error:
            self._fail(error.args[0])
        if found.error is not None:
            self._fail(found.error)
        return sorted(found.partitions)

    def watermarks(self) -> dict[int, Watermarks]:
        """What each partition holds now.

        Raises:
            NotFoundError: there is no such topic.
            UnavailableError: no broker answers within the timeout.
        """
        return {partition: self._watermarks(partition) for partition in self.partitions()}

    def _watermarks(self, partition: int) -> Watermarks:
        try:
            marks = self._consumer.get_watermark_offsets(
                TopicPartition(self.topic, partition), timeout=self.timeout_s, cached=False
            )
        except KafkaException as error:
            self._fail(error.args[0])
        if marks is None:
            self._silent()
        return Watermarks(*marks)

    def read(self, partition: int, start: int, limit: Limit) -> Records:
        """Read from `start` until the limit or the end of the partition, whichever comes first.

        Raises:
            IntegrityError: records from `start` on are not there any more.
            UnavailableError: no record and no end of the partition within the timeout.
        """
        if self._at != (partition, start):
            check_start(self.name, partition, start, self._watermarks(partition))
            self._consumer.assign([TopicPartition(self.topic, partition, start)])
        self._at = None
        values: list[bytes | None] = []
        offsets: list[int] = []
        position = start
        heard = time.monotonic()
        while position < limit.until and len(values) < limit.rows:
            wanted = min(limit.rows - len(values), limit.until - position, _MOST_AT_ONCE)
            messages = self._consumer.consume(wanted, _SLICE_S)
            if messages:
                ended = self._take(messages, start, values, offsets)
                position = max(self._position(partition), offsets[-1] + 1 if offsets else start)
                if ended is not None:
                    return self._cut(values, offsets, max(position, ended), limit, None)
                if offsets:
                    heard = time.monotonic()
            if time.monotonic() - heard > self.timeout_s:
                self._silent()
        return self._cut(values, offsets, position, limit, partition)

    def _take(
        self, messages: list[Any], start: int, values: list[bytes | None], offsets: list[int]
    ) -> int | None:
        """Put good messages into `values` and `offsets`; returns the end of the partition if it was told."""
        errors = [m for m in messages if m.error() is not None]
        ended = None
        for message in errors:
            code = message.error().code()
            if code == KafkaError._PARTITION_EOF:
                ended = message.offset()
            elif code in _OUT_OF_RANGE:
                raise IntegrityError(
                    f"{self.name} has no record at offset {start} any more: {message.error().str()}",
                    "its retention is too short, or the topic was made anew; see the committed offsets",
                )
            elif code not in _TRANSIENT:
                self._fail(message.error())
        good = [m for m in messages if m.error() is None] if errors else messages
        values += [m.value() for m in good]
        offsets += [m.offset() for m in good]
        return ended

    def _cut(
        self,
        values: list[bytes | None],
        offsets: list[int],
        position: int,
        limit: Limit,
        partition: int | None,
    ) -> Records:
        """The records before `limit.until`; behind a gap, a read may have gone past it."""
        count = len(offsets)
        while count and offsets[count - 1] >= limit.until:
            count -= 1
        if count < len(offsets):
            return Records(values[:count], offsets[:count], limit.until)
        self._at = (partition, position) if partition is not None else None
        return Records(values, offsets, position)

    def _position(self, partition: int) -> int:
        # Behind a transaction marker the position is further than the last message's offset + 1.
        return int(self._consumer.position([TopicPartition(self.topic, partition)])[0].offset)

    def _note(self, error: Any) -> None:
        self._trouble = f"; last heard: {error.str()}"

    def _silent(self) -> NoReturn:
        raise UnavailableError(
            f"{self.name} at {self.bootstrap} was silent for {self.timeout_s:g} s{self._trouble}",
            "see that the broker runs and that kafka.bootstrap is right",
        )

    def _fail(self, error: Any) -> NoReturn:
        raise _translated(error, self)


def _translated(error: Any, source: KafkaSource) -> RayplatError:
    if error.code() in _UNKNOWN:
        return NotFoundError(
            f"there is no topic {source.topic!r} at {source.bootstrap}",
            "create it, or correct the table's source",
        )
    return UnavailableError(
        f"{source.name} at {source.bootstrap} does not answer: {error.str()}",
        "see that the broker runs and that kafka.bootstrap and kafka.options are right",
    )

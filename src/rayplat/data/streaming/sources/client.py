"""The Python client's consumer, with the face of `librdkafka.NativeConsumer`.

Knows confluent-kafka's objects; it does not know limits or what a record means. It is the reader where
another consumer than librdkafka's own is given, and the yardstick that the faster one is tested against.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaException, TopicPartition

from rayplat.data.streaming.payloads import Payloads, joined

_MOST_AT_ONCE = 20_000


class ClientMessages:
    """A batch of message objects.

    Attributes:
        errors: librdkafka's code of each message, 0 where it is a record.
        offsets: their offsets.
    """

    def __init__(self, messages: list[Any]) -> None:
        self._messages = messages
        found = [message.error() for message in messages]
        self.errors = np.array([0 if error is None else error.code() for error in found], np.int32)
        self.offsets = np.array([message.offset() or 0 for message in messages], np.int64)

    def __len__(self) -> int:
        return len(self._messages)

    def payloads(self, chosen: npt.NDArray[np.bool_] | None = None) -> Payloads:
        """The values of the chosen messages, or of all."""
        picked = range(len(self)) if chosen is None else np.flatnonzero(chosen).tolist()
        return joined([self._messages[index].value() for index in picked])

    def key(self, index: int) -> bytes | None:
        """The key of a message."""
        key: bytes | None = self._messages[index].key()
        return key

    def headers(self, index: int) -> list[tuple[str, bytes | None]]:
        """The headers of a message, in their order."""
        return list(self._messages[index].headers() or [])

    def timestamp_ms(self, index: int) -> int | None:
        """When a message was made or appended, ms since 1970; None where it does not say."""
        kind, stamp = self._messages[index].timestamp()
        return int(stamp) if kind else None

    def text(self, index: int) -> str:
        """What a message that is an error says."""
        return str(self._messages[index].error().str())

    def release(self) -> None:
        """Nothing is held that Python would not free."""


class ClientConsumer:
    """A consumer of the Python client that is assigned one partition at a time.

    Args:
        consumer: a `confluent_kafka.Consumer`, or what behaves like one.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def assign(self, topic: str, partition: int, offset: int) -> None:
        """Read this partition from `offset` on."""
        self._consumer.assign([TopicPartition(topic, partition, offset)])

    def consume(self, count: int, timeout_s: float) -> ClientMessages:
        """At most `count` messages: what is there when they are, or when the time is over."""
        return ClientMessages(self._consumer.consume(min(count, _MOST_AT_ONCE), timeout_s))

    def position(self, topic: str, partition: int) -> int:
        """Behind the last message taken, and behind the markers that were passed."""
        return int(self._consumer.position([TopicPartition(topic, partition)])[0].offset)

    def watermarks(self, topic: str, partition: int, timeout_s: float) -> tuple[int, int] | int:
        """The partition's oldest and next offset, asked of the broker; or librdkafka's error code."""
        try:
            marks = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=timeout_s, cached=False
            )
        except KafkaException as error:
            return int(error.args[0].code())
        return (int(marks[0]), int(marks[1])) if marks is not None else -185  # _TIMED_OUT

    def close(self) -> None:
        """The consumer is closed by whoever made it."""

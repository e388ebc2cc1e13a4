"""librdkafka's consumer by its C interface: whole batches of messages without a Python object for each.

Knows the public interface of librdkafka (`rdkafka.h`: `rd_kafka_message_t`, batch consumption) and
how payloads are gathered; it does not know retries, limits, or what a record means. A message object of
the Python client costs more than fetching, decompressing and checking the record; here a batch is read
with a few NumPy operations, which doubles what one core can take in.
"""

import ctypes
import ctypes.util
import functools
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np
import numpy.typing as npt

from rayplat.core.errors import UnavailableError, UserError
from rayplat.data.streaming.payloads import Payloads, gather

_CONSUMER = 1
_TEXT = 512
# The fields of rd_kafka_message_t in 8-byte words: err and padding, topic, partition and padding,
# payload, length, key, key length, offset.
_ERROR, _PAYLOAD, _LENGTH, _KEY, _KEY_LENGTH, _OFFSET = 0, 3, 4, 5, 6, 7
_WORDS = 9

Numbers = npt.NDArray[np.int64]


class Messages:
    """A batch of messages that librdkafka still owns; `release` gives them back.

    Attributes:
        errors: librdkafka's code of each message, 0 where it is a record.
        offsets: their offsets; of a message that tells the end of a partition: that end.
    """

    def __init__(self, pointers: npt.NDArray[np.uint64]) -> None:
        self._pointers = pointers
        self._fields = _fields(pointers)
        self.errors = self._fields[_ERROR].astype(np.int32)
        self.offsets = self._fields[_OFFSET]

    def __len__(self) -> int:
        return len(self._pointers)

    def payloads(self, chosen: npt.NDArray[np.bool_] | None = None) -> Payloads:
        """Copies of the values of the chosen messages, or of all."""
        addresses, lengths = self._fields[_PAYLOAD], self._fields[_LENGTH]
        if chosen is not None:
            addresses, lengths = addresses[chosen], lengths[chosen]
        return gather(addresses, lengths)

    def key(self, index: int) -> bytes | None:
        """The key of a message."""
        address = int(self._fields[_KEY][index])
        return ctypes.string_at(address, int(self._fields[_KEY_LENGTH][index])) if address else None

    def headers(self, index: int) -> list[tuple[str, bytes | None]]:
        """The headers of a message, in their order; a name may come more than once."""
        library, found = load(), ctypes.c_void_p()
        if library.rd_kafka_message_headers(int(self._pointers[index]), ctypes.byref(found)):
            return []
        name, value, size = ctypes.c_char_p(), ctypes.c_void_p(), ctypes.c_size_t()
        headers: list[tuple[str, bytes | None]] = []
        while not library.rd_kafka_header_get_all(
            found, len(headers), ctypes.byref(name), ctypes.byref(value), ctypes.byref(size)
        ):
            content = ctypes.string_at(value.value, size.value) if value.value else None
            headers.append(((name.value or b"").decode("utf-8", "replace"), content))
        return headers

    def timestamp_ms(self, index: int) -> int | None:
        """When a message was made or appended, ms since 1970; None where it does not say."""
        kind = ctypes.c_int()
        stamp = int(load().rd_kafka_message_timestamp(int(self._pointers[index]), ctypes.byref(kind)))
        return stamp if kind.value else None

    def text(self, index: int) -> str:
        """What a message that is an error says."""
        return str(load().rd_kafka_message_errstr(int(self._pointers[index])).decode("utf-8", "replace"))

    def release(self) -> None:
        """Give the messages back to librdkafka; nothing but `errors` and `offsets` may be asked then."""
        pointers, self._pointers = self._pointers, self._pointers[:0]
        # Without the GIL's release a call takes a third of the time, and it never blocks.
        deque(map(_destroyer(), pointers.tolist()), maxlen=0)


class NativeConsumer:
    """One consumer that is assigned one partition at a time and joins no group.

    Args:
        options: librdkafka's configuration, as text.

    Raises:
        UserError: an option is not known, or has no such value.
        UnavailableError: librdkafka cannot be loaded, or does not start.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        library = load()
        conf = library.rd_kafka_conf_new()
        reason = ctypes.create_string_buffer(_TEXT)
        for name, value in options.items():
            if library.rd_kafka_conf_set(conf, name.encode(), value.encode(), reason, _TEXT):
                library.rd_kafka_conf_destroy(conf)
                raise UserError(
                    f"librdkafka refuses the option {name}: {reason.value.decode()}", "correct kafka.options"
                )
        self._client = library.rd_kafka_new(_CONSUMER, conf, reason, _TEXT)
        if not self._client:
            library.rd_kafka_conf_destroy(conf)
            raise UserError(f"librdkafka did not start: {reason.value.decode()}", "correct kafka.options")
        library.rd_kafka_poll_set_consumer(self._client)
        self._queue = library.rd_kafka_queue_get_consumer(self._client)

    def assign(self, topic: str, partition: int, offset: int) -> None:
        """Read this partition from `offset` on; what was fetched before is thrown away."""
        library, chosen = load(), load().rd_kafka_topic_partition_list_new(1)
        library.rd_kafka_topic_partition_list_add(chosen, topic.encode(), partition)
        library.rd_kafka_topic_partition_list_set_offset(chosen, topic.encode(), partition, offset)
        failed = library.rd_kafka_assign(self._client, chosen)
        library.rd_kafka_topic_partition_list_destroy(chosen)
        if failed:
            raise UnavailableError(f"partition {partition} of {topic} cannot be read: {_said(failed)}")

    def consume(self, count: int, timeout_s: float) -> Messages:
        """At most `count` messages: what is there when they are, or when the time is over."""
        pointers = np.empty(count, np.uint64)
        got = load().rd_kafka_consume_batch_queue(
            self._queue, int(timeout_s * 1000), pointers.ctypes.data, count
        )
        return Messages(pointers[: max(got, 0)])

    def position(self, topic: str, partition: int) -> int:
        """Behind the last message taken, and behind the markers that were passed; -1 before the first."""
        library, asked = load(), load().rd_kafka_topic_partition_list_new(1)
        entry = library.rd_kafka_topic_partition_list_add(asked, topic.encode(), partition)
        library.rd_kafka_position(self._client, asked)
        found = _TopicPartition.from_address(entry).offset
        library.rd_kafka_topic_partition_list_destroy(asked)
        return max(int(found), -1)

    def watermarks(self, topic: str, partition: int, timeout_s: float) -> tuple[int, int] | int:
        """The partition's oldest and next offset, asked of the broker; or librdkafka's error code."""
        low, high = ctypes.c_int64(), ctypes.c_int64()
        failed = load().rd_kafka_query_watermark_offsets(
            self._client,
            topic.encode(),
            partition,
            ctypes.byref(low),
            ctypes.byref(high),
            int(timeout_s * 1000),
        )
        return int(failed) if failed else (low.value, high.value)

    def close(self) -> None:
        """Leave the brokers. Every batch must have been released before."""
        if self._client:
            load().rd_kafka_queue_destroy(self._queue)
            load().rd_kafka_consumer_close(self._client)
            load().rd_kafka_destroy(self._client)
            self._client = None


class _TopicPartition(ctypes.Structure):
    _fields_ = (
        ("topic", ctypes.c_char_p),
        ("partition", ctypes.c_int32),
        ("offset", ctypes.c_int64),
    )


def _fields(pointers: npt.NDArray[np.uint64]) -> list[Numbers]:
    """The words of each message, column by column.

    Messages lie where librdkafka has allocated them, so they are read through a view over the whole
    span of addresses; only the messages themselves are touched.
    """
    if not len(pointers):
        return [np.empty(0, np.int64)] * _WORDS
    lowest = int(pointers.min())
    span = (int(pointers.max()) - lowest) // 8 + _WORDS
    view = np.asarray(_Memory(lowest, span))
    at = ((pointers - np.uint64(lowest)) >> np.uint64(3)).astype(np.int64)
    return [view[at + word] for word in range(_WORDS)]


class _Memory:
    """A read-only view of this process's memory, for NumPy."""

    def __init__(self, address: int, words: int) -> None:
        self.__array_interface__ = {
            "data": (address, True),
            "shape": (words,),
            "typestr": "<i8",
            "version": 3,
        }


def _said(code: int) -> str:
    return str(load().rd_kafka_err2str(code).decode())


@functools.cache
def load() -> Any:
    """The librdkafka that the Python client has loaded, or the system's.

    Raises:
        UnavailableError: there is none, or it lacks a function.
    """
    path = _path()
    try:
        library = ctypes.CDLL(path)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UnavailableError(
            f"librdkafka cannot be used from {path}: {error}", "install confluent-kafka from its wheel"
        ) from error
    return library


@functools.cache
def _destroyer() -> Any:
    destroy = ctypes.PyDLL(_path()).rd_kafka_message_destroy
    destroy.restype, destroy.argtypes = None, [ctypes.c_void_p]
    return destroy


def _path() -> str:
    package = Path(confluent_kafka.__file__).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    return str(found[0]) if found else str(ctypes.util.find_library("rdkafka"))


_ADDRESS, _NAME, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (_ADDRESS, []),
    "rd_kafka_conf_destroy": (None, [_ADDRESS]),
    "rd_kafka_conf_set": (_INT, [_ADDRESS, _NAME, _NAME, _NAME, ctypes.c_size_t]),
    "rd_kafka_new": (_ADDRESS, [_INT, _ADDRESS, _NAME, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [_ADDRESS]),
    "rd_kafka_poll_set_consumer": (_INT, [_ADDRESS]),
    "rd_kafka_queue_get_consumer": (_ADDRESS, [_ADDRESS]),
    "rd_kafka_queue_destroy": (None, [_ADDRESS]),
    "rd_kafka_consumer_close": (_INT, [_ADDRESS]),
    "rd_kafka_consume_batch_queue": (ctypes.c_ssize_t, [_ADDRESS, _INT, _ADDRESS, ctypes.c_size_t]),
    "rd_kafka_topic_partition_list_new": (_ADDRESS, [_INT]),
    "rd_kafka_topic_partition_list_add": (_ADDRESS, [_ADDRESS, _NAME, ctypes.c_int32]),
    "rd_kafka_topic_partition_list_set_offset": (_INT, [_ADDRESS, _NAME, ctypes.c_int32, ctypes.c_int64]),
    "rd_kafka_topic_partition_list_destroy": (None, [_ADDRESS]),
    "rd_kafka_assign": (_INT, [_ADDRESS, _ADDRESS]),
    "rd_kafka_position": (_INT, [_ADDRESS, _ADDRESS]),
    "rd_kafka_query_watermark_offsets": (
        _INT,
        [_ADDRESS, _NAME, ctypes.c_int32, _ADDRESS, _ADDRESS, _INT],
    ),
    "rd_kafka_message_headers": (_INT, [_ADDRESS, _ADDRESS]),
    "rd_kafka_header_get_all": (_INT, [_ADDRESS, ctypes.c_size_t, _ADDRESS, _ADDRESS, _ADDRESS]),
    "rd_kafka_message_timestamp": (ctypes.c_int64, [_ADDRESS, _ADDRESS]),
    "rd_kafka_message_errstr": (_NAME, [_ADDRESS]),
    "rd_kafka_err2str": (_NAME, [_INT]),
}

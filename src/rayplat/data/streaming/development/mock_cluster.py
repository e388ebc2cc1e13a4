"""The broker inside librdkafka: a real Kafka protocol server in this process, on loopback.

Knows librdkafka's mock cluster through its C interface, because the Python client can start one but
cannot give a topic its number of partitions. It does not know processes or settings. It keeps about
the last 5 MB a partition (as sent, so compressed batches count compressed), and nothing when it ends.
"""

import ctypes
import ctypes.util
from pathlib import Path
from typing import Self

import confluent_kafka

from rayplat.core.errors import UnavailableError, UserError

_PRODUCER = 0


class MockCluster:
    """One broker with the topics that it is given. Close it, or use it as a context manager.

    Raises:
        UnavailableError: librdkafka cannot be loaded, or does not start its broker.
    """

    def __init__(self) -> None:
        self._library = _library()
        conf = self._library.rd_kafka_conf_new()
        reason = ctypes.create_string_buffer(512)
        self._library.rd_kafka_conf_set(conf, b"log_level", b"0", reason, len(reason))
        self._client = self._library.rd_kafka_new(_PRODUCER, conf, reason, len(reason))
        if not self._client:
            raise UnavailableError(f"librdkafka did not start: {reason.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        if not self._cluster:
            raise UnavailableError("librdkafka did not start its broker", "free a port on loopback")
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self.topics: dict[str, int] = {}

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic; one that is there with as many partitions stays as it is.

        Raises:
            UserError: the topic has another number of partitions, which cannot be changed.
        """
        if self.topics.get(topic) == partitions:
            return
        failed = self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)
        if topic in self.topics or failed:
            have = self.topics.get(topic, "other")
            raise UserError(
                f"topic {topic!r} has {have} partitions on the development broker, not {partitions}",
                "stop the broker and start it again",
            )
        self.topics[topic] = partitions

    def close(self) -> None:
        """Stop the broker; all records are forgotten."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._client)
            self._cluster = self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _library() -> ctypes.CDLL:
    """The librdkafka that the Python client has loaded, or the system's."""
    package = Path(confluent_kafka.__file__).parent
    found = [
        *package.parent.glob("confluent_kafka.libs/librdkafka*"),
        *package.glob(".dylibs/librdkafka*"),
    ]
    path = str(found[0]) if found else ctypes.util.find_library("rdkafka")
    try:
        library = ctypes.CDLL(path)
        signatures = {
            "rd_kafka_conf_new": (ctypes.c_void_p, []),
            "rd_kafka_conf_set": (
                ctypes.c_int,
                [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
            ),
            "rd_kafka_new": (
                ctypes.c_void_p,
                [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t],
            ),
            "rd_kafka_destroy": (None, [ctypes.c_void_p]),
            "rd_kafka_mock_cluster_new": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
            "rd_kafka_mock_cluster_destroy": (None, [ctypes.c_void_p]),
            "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [ctypes.c_void_p]),
            "rd_kafka_mock_topic_create": (
                ctypes.c_int,
                [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int],
            ),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UnavailableError(
            f"librdkafka's development broker cannot be loaded from {path}: {error}",
            "install confluent-kafka from its wheel, or set kafka.bootstrap to a broker",
        ) from error
    return library

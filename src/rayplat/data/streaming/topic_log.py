"""A Kafka topic as a log: what was acknowledged is with several brokers, and survives any one of them.

Knows how a record is acknowledged by all replicas in sync and what a topic must be for that to mean several
machines; it does not know what a record holds, nor who reads it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]

from rayplat.core.errors import RayplatError, UnavailableError, UserError

MOST_BYTES = 900_000
"""So long may a record be: a broker refuses 1 MB and more at its defaults."""

_POLL_S = 0.05
_IN_SYNC = "min.insync.replicas"
_UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})


class TopicLog:
    """Appends to one topic. Safe for many threads; nothing is opened before the first use.

    Args:
        bootstrap: `host:port` of the brokers, comma-separated.
        partitions: of the topic, where it is made here.
        copies: so many brokers must have a record before it is acknowledged.
        options: further librdkafka options, such as `sasl.username`.
        timeout_s: how long a record may wait for its acknowledgement, s.
        producer, admin: make the clients from librdkafka's configuration; seams for tests.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        partitions: int = 1,
        copies: int = 2,
        options: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        producer: Callable[[dict[str, Any]], Any] = Producer,
        admin: Callable[[dict[str, Any]], Any] = AdminClient,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._partitions = partitions
        self._copies = copies
        self._options = dict(options or {})
        self._timeout_s = timeout_s
        self._producer = producer
        self._admin = admin
        self._made: Any = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._poller: threading.Thread | None = None

    def open(self) -> None:
        """See that the topic is what is asked for, before the first record comes.

        Raises:
            UserError: it has fewer copies than are asked for.
            UnavailableError: no broker answers.
        """
        self._opened()

    def submit(self, payloads: Sequence[bytes]) -> "Future[None]":
        """Append records; the future is done when all brokers in sync have all of them.

        The future's error is UnavailableError when they were not acknowledged in time; then nobody knows
        which of them the topic has.

        Raises:
            UserError: the topic has fewer copies than are asked for, or a record is too long.
            UnavailableError: the brokers do not answer, or too much waits for them.
        """
        if (longest := max((len(one) for one in payloads), default=0)) > MOST_BYTES:
            raise UserError(
                f"a record of {longest} bytes is too long for {self._topic}", "ask for less at once"
            )
        client = self._opened()
        waiting = _Waiting(len(payloads), self._topic)
        for number, payload in enumerate(payloads):
            try:
                client.produce(self._topic, payload, on_delivery=waiting.told)
            except (BufferError, KafkaException) as error:
                waiting.refuse(error, len(payloads) - number)
                break
        client.poll(0)
        return waiting.done

    def close(self) -> None:
        """Wait for what was submitted, and let go of the brokers. May be called twice."""
        with self._lock:
            client, self._made = self._made, None
            poller, self._poller = self._poller, None
        self._stop.set()
        if poller is not None:
            poller.join()
        if client is not None:
            client.flush(self._timeout_s)

    def _opened(self) -> Any:
        with self._lock:
            if self._made is None:
                self._check()
                self._made = self._producer(self._configuration())
                self._stop = threading.Event()
                args = (self._made, self._stop)
                self._poller = threading.Thread(target=_poll, args=args, name="topic-log", daemon=True)
                self._poller.start()
            return self._made

    def _configuration(self) -> dict[str, Any]:
        return {
            "compression.type": "lz4",
            "queue.buffering.max.kbytes": 65_536,
            **self._options,
            "bootstrap.servers": self._bootstrap,
            "acks": "all",
            # A record that is sent again after a lost acknowledgement is in the topic once.
            "enable.idempotence": True,
            # Requests that wait at the same moment share a batch; nothing is delayed to fill one.
            "linger.ms": 0,
            "delivery.timeout.ms": int(self._timeout_s * 1000),
            "request.timeout.ms": int(self._timeout_s * 1000),
            "log_level": 0,
        }

    def _check(self) -> None:
        """See that the topic is there and has the copies; make it where it is not.

        Raises:
            UserError: it has fewer copies than are asked for.
            UnavailableError: no broker answers.
        """
        admin = self._admin({**self._options, "bootstrap.servers": self._bootstrap, "log_level": 0})
        try:
            found = admin.list_topics(self._topic, timeout=self._timeout_s).topics[self._topic]
            if found.error is not None and found.error.code() in _UNKNOWN:
                self._create(admin)
                return
            if found.error is not None:
                raise _unavailable(self._topic, found.error)
            self._check_copies(admin, found)
        except KafkaException as error:
            raise _unavailable(self._topic, error) from error

    def _create(self, admin: Any) -> None:
        config = {
            _IN_SYNC: str(self._copies),
            "cleanup.policy": "delete",
            "retention.ms": str(7 * 86_400_000),
        }
        # One replica more than must acknowledge: so a broker may be away and predictions are still answered.
        replicas = self._copies + 1 if self._copies > 1 else 1
        new = NewTopic(
            self._topic, num_partitions=self._partitions, replication_factor=replicas, config=config
        )
        try:
            admin.create_topics([new], request_timeout=self._timeout_s)[self._topic].result(self._timeout_s)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _check_copies(self, admin: Any, found: Any) -> None:
        if self._copies < 2:
            return
        have = min((len(partition.replicas) for partition in found.partitions.values()), default=0)
        if have >= self._copies:
            asked = ConfigResource(ConfigResource.Type.TOPIC, self._topic)
            told = admin.describe_configs([asked], request_timeout=self._timeout_s)[asked]
            have = int(told.result(self._timeout_s)[_IN_SYNC].value)
        if have < self._copies:
            raise UserError(
                f"the topic {self._topic} acknowledges with {have} copies, and {self._copies} are asked for",
                f"give it {self._copies} or more replicas and {_IN_SYNC}={self._copies}; or, where one copy "
                "is enough, set serve.log_copies=1",
            )


class _Waiting:
    """Records that are acknowledged together."""

    def __init__(self, count: int, topic: str) -> None:
        self.done: Future[None] = Future()
        self._left = count
        self._topic = topic
        self._error: RayplatError | None = None
        self._lock = threading.Lock()
        if count == 0:
            self.done.set_result(None)

    def told(self, error: Any, _message: Any) -> None:
        """One record was acknowledged, or was not."""
        self._settle(None if error is None else _unavailable(self._topic, error), 1)

    def refuse(self, error: Exception, count: int) -> None:
        """Records were not even taken."""
        self._settle(_unavailable(self._topic, error), count)

    def _settle(self, error: RayplatError | None, count: int) -> None:
        with self._lock:
            self._left -= count
            self._error = self._error or error
            ended = self._left == 0
        if ended:
            with suppress(InvalidStateError):  # who asked has gone away
                if self._error is None:
                    self.done.set_result(None)
                else:
                    self.done.set_exception(self._error)


def _poll(client: Any, stop: threading.Event) -> None:
    """Hear acknowledgements as they come."""
    while not stop.is_set():
        client.poll(_POLL_S)


def _unavailable(topic: str, error: Any) -> UnavailableError:
    told = error.args[0] if isinstance(error, KafkaException) else error
    text = told.str() if isinstance(told, KafkaError) else str(told)
    return UnavailableError(
        f"the topic {topic} did not take records: {text}", "look at the brokers and at kafka.bootstrap"
    )

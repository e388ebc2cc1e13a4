"""The prediction log of class `replicated` on Kafka: acknowledged when every broker in sync has a record.

Knows how predictions become records of a topic, and how what the topic holds becomes rows of
`serving.predictions`, each of them once; it does not know how a broker acknowledges.

The position up to which a partition was shipped is in the table itself, as the offset of the topic as a
source, and the fenced committer refuses a snapshot that does not build on the last one. So any machine may
ship, and several may try at once.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from rayplat.core.errors import IntegrityError, UnavailableError, UserError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.settings import Settings
from rayplat.core.telemetry import counter
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.source import Limit, Source, check_offsets
from rayplat.data.streaming.topic_log import MOST_BYTES, TopicLog
from rayplat.serve.log.rows import SCHEMA, TABLE, arrow, payload, records_of
from rayplat.serve.log.shipping import Shipped
from rayplat.serve.outbox import PredictionRecord

_MOST_ROWS = 50_000
_MOST_RECORDS = 5_000
_PARTITIONS = 3


def _nothing() -> None:
    return None


class KafkaLog:
    """The log of one process on a topic. Safe for many threads.

    Args:
        topic: takes the records; closed with this.
        opened: called once, when the first record comes.
        closed: called when the log is closed, after the records.
    """

    def __init__(
        self,
        topic: TopicLog,
        *,
        opened: Callable[[], None] = _nothing,
        closed: Callable[[], None] = _nothing,
    ) -> None:
        self._topic = topic
        self._opened = opened
        self._ended = closed
        self._begun = False
        self._closed = False
        self._written = counter("prediction_log_rows_total", "predictions made durable")

    def submit(self, records: Sequence[PredictionRecord]) -> "Future[None]":
        """Hand records over; the future is done when the brokers have them.

        The future's error is UnavailableError when they did not acknowledge in time.

        Raises:
            UnavailableError: the log is closed, or the brokers cannot be reached.
            UserError: the topic is not what the class promises.
        """
        if self._closed:
            raise UnavailableError("the prediction log is closed", "the replica is stopping: ask again")
        if not self._begun:
            self._begun = True
            self._opened()
        done = self._topic.submit(_payloads(records))
        self._written.inc(len(records))
        return done

    def append(self, records: Sequence[PredictionRecord]) -> None:
        """Write records and return when they are durable.

        Raises:
            UnavailableError: the brokers did not acknowledge them.
        """
        self.submit(records).result()

    def close(self) -> None:
        """Wait for what was submitted, and stop. May be called twice."""
        self._closed = True
        self._topic.close()
        self._ended()


def open_topic_log(settings: Settings) -> TopicLog:
    """The topic that the settings name, to write to."""
    return TopicLog(
        settings.kafka.bootstrap,
        settings.serve.log_topic,
        partitions=_PARTITIONS,
        copies=settings.serve.log_copies,
        options=settings.kafka.options,
    )


def open_topic(settings: Settings) -> KafkaSource:
    """The topic that the settings name, to read from."""
    return KafkaSource(
        settings.kafka.bootstrap,
        settings.serve.log_topic,
        settings.kafka.options,
        timeout_s=settings.ingest.poll_timeout_s,
    )


def _payloads(records: Sequence[PredictionRecord]) -> list[bytes]:
    """Records as payloads that a broker takes: those of one answer together, as far as they fit."""
    whole = payload(records)
    if len(whole) <= MOST_BYTES:
        return [whole]
    if len(records) == 1:
        raise UserError(
            f"a prediction of {len(whole):,} bytes does not fit into the log", "send smaller instances"
        )
    half = len(records) // 2
    return _payloads(records[:half]) + _payloads(records[half:])


def ship_topic(source: Source, lake: Lakehouse, bus: EventBus) -> Shipped:
    """Move what a topic holds into the table. Emits SnapshotCommitted for each snapshot.

    Raises:
        ConflictError: another shipper was faster; call again.
        IntegrityError: the topic has lost records that were not moved yet; or, after all else was moved, it
            holds what is no prediction.
        NotFoundError: there is no such topic.
        UnavailableError: the brokers do not answer.
    """
    table = lake.ensure_schema(TABLE, SCHEMA)
    committer = FencedCommitter(lake, TABLE, source.name)
    committed, rows, snapshots, strange = dict(committer.committed()), 0, list[int](), list[str]()
    while True:
        records, offsets, bad = _read(source, committed)
        strange += bad
        if not offsets:
            break
        files = table.write_files(arrow(records)) if records else ()
        snapshots.append(committer.commit(files, committed, offsets))
        committed, rows = {**committed, **offsets}, rows + len(records)
        bus.emit(
            SnapshotCommitted(
                table=TABLE,
                snapshot_id=snapshots[-1],
                rows=len(records),
                source=source.name,
                offsets=committed,
            )
        )
    if strange:
        raise IntegrityError(
            f"{source.name} holds records that are no predictions; passed by: {', '.join(strange)}",
            "find who else writes to the topic: it is to be this log's alone",
        )
    return Shipped(rows, tuple(snapshots))


def _read(
    source: Source, committed: Mapping[str, int]
) -> tuple[list[PredictionRecord], dict[str, int], list[str]]:
    """Predictions from the committed offsets on, the next offsets, and the places of what is none."""
    marks = source.watermarks()
    starts = {str(partition): committed.get(str(partition), 0) for partition in marks}
    check_offsets(source.name, {**committed, **starts}, marks)
    records: list[PredictionRecord] = []
    offsets: dict[str, int] = {}
    strange: list[str] = []
    for partition, mark in marks.items():
        start = starts[str(partition)]
        while start < mark.high and len(records) < _MOST_ROWS:
            read = source.read(partition, start, Limit(mark.high, _MOST_RECORDS))
            for offset, value in zip(read.offsets, read.values, strict=True):
                try:
                    records += records_of(value or b"")
                except (ValueError, TypeError, KeyError, AttributeError):
                    strange.append(f"partition {partition} offset {offset}")
            if read.next_offset == start:
                break
            start = offsets[str(partition)] = read.next_offset
    return records, offsets, strange

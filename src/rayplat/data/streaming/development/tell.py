"""The teller: plays recorded events to the development broker, paced behind what is ingested.

Knows offsets and how much a development broker keeps; it does not know how events are ingested.

The broker keeps about 5 MB a partition and forgets all when it is killed. Telling again begins at
offset 0 with the same events at the same offsets, and goes on past what is committed whatever `until`
says, so that the ingest finds its offset. Then the head of a partition may be dropped (its low
watermark moves); it is never missed: what is told beyond the committed offset stays under 2 MB as the
broker stores it (compressed), so the committed offset always lies in the 5 MB that are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from confluent_kafka import KafkaException, Producer

from rayplat.core.errors import IntegrityError, UnavailableError, UserError
from rayplat.core.project.source import Kafka
from rayplat.core.project.table import Table
from rayplat.data.streaming.development.story import Story
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.source import Watermarks

_AHEAD_BYTES = 2_000_000
_STEP = 5_000
_FLUSH_S = 30.0


@dataclass(frozen=True, slots=True)
class Told:
    """What one call has told.

    Attributes:
        events: how many.
        done: whether all events known before the time are told; if not, ingest and tell on.
    """

    events: int
    done: bool


class Teller:
    """Tells the recorded events of tables. One teller at a time may tell to a broker.

    Args:
        bootstrap: the development broker.
        tables: those that are fed by Kafka and have a recording are told; the others are left out.
    """

    def __init__(self, bootstrap: str, tables: Sequence[Table]) -> None:
        self.bootstrap = bootstrap
        self._tables = [t for t in tables if isinstance(t.source, Kafka) and t.source.replay is not None]
        self._stories: dict[str, Story] = {}
        self._sources: dict[str, KafkaSource] = {}
        self._made: Any = None
        self._failed: list[str] = []

    def close(self) -> None:
        """Give connections back; the next use opens them again."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        self._made = None

    def tell(self, until: datetime, committed: Callable[[str], Mapping[str, int]]) -> Told:
        """Tell the events known before `until`, and all that were told before; it may be called again.

        It continues from the broker's high watermarks, and stops early where a partition is 2 MB
        ahead of the ingest.

        Args:
            until: a time with a zone.
            committed: gives the committed offsets of a table by its name.

        Raises:
            UserError: `until` has no zone, or a topic has other partitions than declared.
            IntegrityError: broker or lakehouse are further than the recording is long.
            UnavailableError: the broker does not answer.
        """
        if until.tzinfo is None:
            raise UserError(f"{until} has no time zone", "give a time in UTC")
        events = 0
        done = True
        for table in self._tables:
            story = self._story(table)
            marks = self._marks(table.name, story)
            offsets = committed(table.name)
            for partition, mark in marks.items():
                begin = int(offsets.get(str(partition), 0))
                _check_length(table.name, story, partition, max(mark.high, begin))
                target = max(story.known_before(partition, until), begin)
                told, complete = self._tell(story, partition, mark.high, begin, target)
                events += told
                done = done and complete
        self._flush()
        return Told(events, done)

    def _story(self, table: Table) -> Story:
        if table.name not in self._stories:
            self._stories[table.name] = Story(table)
        return self._stories[table.name]

    def _marks(self, name: str, story: Story) -> dict[int, Watermarks]:
        source = self._sources.setdefault(name, KafkaSource(self.bootstrap, story.topic))
        marks = source.watermarks()
        if sorted(marks) != list(range(story.partitions)):
            raise UserError(
                f"topic {story.topic!r} has {len(marks)} partitions, "
                f"and table {name} declares {story.partitions}",
                "stop the development broker and start it again with the declared partitions",
            )
        return marks

    def _tell(self, story: Story, partition: int, high: int, committed: int, target: int) -> tuple[int, bool]:
        """Tell one partition from `high` to `target`; how many events, and whether that is all."""
        position = high
        room = _AHEAD_BYTES - story.stored_bytes(partition, committed, max(position, committed))
        while position < target:
            ahead = position >= committed
            end = min(position + _STEP, target if ahead else committed)
            if ahead:
                end, size = _fitting(story, partition, position, end, room)
                if size > room and position > committed:
                    return position - high, False
                room -= size
            self._produce(story, partition, position, end)
            position = end
        return position - high, True

    def _produce(self, story: Story, partition: int, begin: int, end: int) -> None:
        """Hand events to the producer."""
        producer = self._producer
        for key, value in zip(*story.messages(partition, begin, end), strict=True):
            try:
                producer.produce(story.topic, value, key, partition)
            except BufferError:
                producer.poll(1.0)
                producer.produce(story.topic, value, key, partition)
            except KafkaException as error:
                raise self._unavailable(str(error)) from error
        producer.poll(0)

    @property
    def _producer(self) -> Any:
        if self._made is None:
            self._made = Producer(
                {
                    "bootstrap.servers": self.bootstrap,
                    # Retries must neither double nor reorder: an event's place is its offset.
                    "enable.idempotence": True,
                    # Large batches compress well, and the broker's 5 MB count what is stored.
                    "compression.type": "zstd",
                    "linger.ms": 500,
                    "batch.num.messages": 10_000,
                    "message.max.bytes": 8_000_000,
                    "queue.buffering.max.messages": 200_000,
                    "message.timeout.ms": int(_FLUSH_S * 1000),
                    "delivery.report.only.error": True,
                    "on_delivery": self._note_failure,
                    "log_level": 0,
                }
            )
        return self._made

    def _note_failure(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failed.append(error.str())

    def _flush(self) -> None:
        if self._made is None:
            return
        left = self._made.flush(_FLUSH_S)
        if left or self._failed:
            reason = self._failed[0] if self._failed else f"{left} events were not acknowledged"
            # The producer would send the rest later, in the middle of another call's events.
            self._made.purge()
            self._made = None
            self._failed = []
            raise self._unavailable(reason)

    def _unavailable(self, reason: str) -> UnavailableError:
        return UnavailableError(
            f"the development broker at {self.bootstrap} stopped taking events: {reason}",
            "start it again and tell again: telling continues where the broker is",
        )


def _check_length(name: str, story: Story, partition: int, reached: int) -> None:
    total = story.total(partition)
    if reached > total:
        raise IntegrityError(
            f"partition {partition} of {story.topic!r} and table {name} are at offset {reached}, "
            f"but the recording has only {total} events",
            "the recording was changed: give it back its events, or begin with an empty home",
        )


def _fitting(story: Story, partition: int, begin: int, end: int, room: int) -> tuple[int, int]:
    """The furthest end, halving towards `begin`, whose events fit into `room`; at least one event.

    Returns:
        The end, and about how many bytes the broker will keep for the events up to it.
    """
    size = story.stored_bytes(partition, begin, end)
    while size > room and end - begin > 1:
        end = begin + (end - begin) // 2
        size = story.stored_bytes(partition, begin, end)
    return end, size

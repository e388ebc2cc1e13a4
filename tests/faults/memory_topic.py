"""A topic in memory with all that can befall one: retention, more partitions, a new life under the old name.

Knows the source protocol; it does not know what a record means.
"""

from collections.abc import Mapping, Sequence
from typing import Self

from rayplat.data.streaming.sources.source import Limit, RecordMeta, Records, Watermarks, check_start


class MemoryTopic:
    """Records by partition and offset.

    Attributes:
        values: every record that was ever produced, by partition; a record's place is its offset.
        low: the oldest offset that retention has left, by partition.
        life: tells this topic from others of the same name.
    """

    def __init__(self, partitions: int, life: str) -> None:
        self.values: dict[int, list[bytes | None]] = {number: [] for number in range(partitions)}
        self.low: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self.life = life

    def add_partition(self) -> int:
        """A further partition, empty; returns its number."""
        number = len(self.values)
        self.values[number] = []
        self.low[number] = 0
        return number

    def produce(self, partition: int, values: Sequence[bytes | None]) -> None:
        """Put records at the end of a partition."""
        self.values[partition].extend(values)

    def everything(self) -> Mapping[tuple[int, int], bytes | None]:
        """Every record, by partition and offset."""
        return {(p, o): value for p, values in self.values.items() for o, value in enumerate(values)}


class MemorySource:
    """Reads a topic as it is at the moment."""

    name = "memory:departures"
    wide = False

    def __init__(self, topic: MemoryTopic) -> None:
        self._topic = topic

    def identity(self) -> str:
        """What tells this topic from others of the same name."""
        return self._topic.life

    def partitions(self) -> list[int]:
        return sorted(self._topic.values)

    def watermarks(self) -> dict[int, Watermarks]:
        return {p: Watermarks(self._topic.low[p], len(self._topic.values[p])) for p in self.partitions()}

    def read(self, partition: int, start: int, limit: Limit) -> Records:
        check_start(self.name, partition, start, self.watermarks()[partition])
        values = self._topic.values[partition]
        end = max(start, min(limit.until, start + limit.rows, len(values)))
        return Records(values[start:end], range(start, end), end, describe=lambda _: RecordMeta(key=b"key"))

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Sources: partitions of records with offsets, read in bounded pieces.

Knows what every source promises; it does not know any protocol, nor what a record means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from rayplat.core.errors import IntegrityError


@dataclass(frozen=True, slots=True)
class Watermarks:
    """What a partition holds: offsets from `low` up to, and without, `high`."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a read stops: before the offset `until`, and after `rows` records."""

    until: int
    rows: int


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition, in the order of their offsets.

    Attributes:
        values: the raw bytes; None for a record without a value.
        offsets: the offset of each record; there may be gaps (transaction markers, compaction).
        next_offset: where the next read starts. It may lie behind the last record's offset + 1.
    """

    values: Sequence[bytes | None]
    offsets: Sequence[int]
    next_offset: int


class Source(Protocol):
    """A topic, stream or folder that can be read again from any offset it still holds."""

    @property
    def name(self) -> str:
        """What the source is called in a snapshot's properties; the same on every machine."""
        ...

    def partitions(self) -> list[int]:
        """The partitions, sorted.

        Raises:
            NotFoundError: there is no such topic.
            UnavailableError: the source does not answer.
        """
        ...

    def watermarks(self) -> dict[int, Watermarks]:
        """What each partition holds now.

        Raises:
            NotFoundError: there is no such topic.
            UnavailableError: the source does not answer.
        """
        ...

    def read(self, partition: int, start: int, limit: Limit) -> Records:
        """Read from `start` until the limit or the end of the partition, whichever comes first.

        It returns fewer records than asked only at `limit.until` or the partition's end.

        Raises:
            IntegrityError: records from `start` on are not there any more.
            UnavailableError: the source falls silent.
        """
        ...

    def close(self) -> None:
        """Give connections back."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def check_start(name: str, partition: int, start: int, marks: Watermarks) -> None:
    """Check that a read may start where the last one ended.

    Raises:
        IntegrityError: retention has removed records that were never read, or offsets went back.
    """
    place = f"partition {partition} of {name}"
    if start < marks.low:
        raise IntegrityError(
            f"{place} was read up to offset {start}, and the oldest record is now at {marks.low}: "
            f"{marks.low - start} records were removed before they were read",
            "restore them (a longer retention, a backup), or accept the loss by moving the committed offset",
        )
    if start > marks.high:
        raise IntegrityError(
            f"{place} was read up to offset {start}, and it ends at {marks.high}: offsets went back, "
            "as when a topic is made anew",
            "tell the events again if this is the development broker; otherwise restore the topic, or "
            "start a new table for the new topic",
        )

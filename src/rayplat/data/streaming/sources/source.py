"""Sources: partitions of records with offsets, read in bounded pieces.

Knows what every source promises; it does not know any protocol, nor what a record means.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from rayplat.core.errors import IntegrityError

if TYPE_CHECKING:
    import polars as pl

PartitionId: TypeAlias = Any
"""What names a partition: an `int` (a Kafka partition, a folder's 0) or a `str` (a shard, a database's "0").

Each source takes its own kind only, so a union would be wrong for all of them.
"""

ENDED = 10**129
"""The next offset of a partition that was read to its end and will never hold more, such as a closed shard.

It is above every offset that a source gives (a Kinesis sequence number has at most 129 digits).
"""


@dataclass(frozen=True, slots=True)
class Watermarks:
    """What a partition holds: offsets from `low` up to, and without, `high`.

    Attributes:
        ended: nothing more will come into this partition.
        parents: the partitions whose records come before those of this one; see `readable`.
        dense: offsets count records, so that `high` less an offset says how many are left.
        most: the furthest that an honest reader can have come, where rows may be deleted after they were
            read; None: up to `high`.
        as_of: where `high` does not bound a read (a stream that does not tell its end): the moment up
            to which records belong to this look; give it to the reads as `Limit.before`.
    """

    low: int
    high: int
    ended: bool = False
    parents: tuple[PartitionId, ...] = ()
    dense: bool = True
    most: int | None = None
    as_of: datetime | None = None

    def lag(self, offset: int) -> int | None:
        """How many records are left behind `offset`; None where offsets do not count records.

        Zero is told of every partition that was read to its high watermark.
        """
        if offset >= self.high:
            return 0
        return self.high - offset if self.dense else None


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a read stops.

    Attributes:
        until: before this offset.
        rows: after so many records.
        before: at the first record that came into the source at this time or later; None: wherever it
            ends. Only sources whose watermarks carry `as_of` heed it.
    """

    until: int
    rows: int
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecordMeta:
    """What stands beside a record's value; kept with it where the record could not be taken.

    Attributes:
        key: the record's key, if it has one.
        headers: the record's headers, in their order; names may repeat.
        at: when the record came into the source, UTC, if it says so.
        raw: the record as text in UTF-8, from a source that gives frames (which have no `values`).
    """

    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    at: datetime | None = None
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition, in the order of their offsets.

    Attributes:
        values: the raw bytes; None for a record without a value. Empty where there is a `frame`.
        offsets: the offset of each record; there may be gaps (transaction markers, compaction).
        next_offset: where the next read starts. It may lie behind the last record's offset + 1.
        frame: where the source gives typed rows itself: one row an offset, with the declared columns;
            the row of a bad record is without meaning.
        bad: the offsets of records that the source could not read, with the reason. They are among
            `offsets`, so that every record received is counted there.
        describe: what stands beside the record at an index of `offsets`; to be asked before the next read.
    """

    values: Sequence[bytes | None]
    offsets: Sequence[int]
    next_offset: int
    frame: "pl.DataFrame | None" = field(default=None, compare=False)
    bad: Mapping[int, str] = field(default_factory=dict)
    describe: Callable[[int], RecordMeta] | None = field(default=None, compare=False)


class Source(Protocol):
    """A topic, stream, folder or table that can be read again from any offset it still holds."""

    @property
    def name(self) -> str:
        """What the source is called in a snapshot's properties; the same on every machine."""
        ...

    @property
    def wide(self) -> bool:
        """Whether partitions are strings and offsets may not fit 64 bits."""
        ...

    def partitions(self) -> Sequence[PartitionId]:
        """The partitions, sorted.

        Raises:
            NotFoundError: there is no such topic.
            UnavailableError: the source does not answer.
        """
        ...

    def watermarks(self) -> dict[PartitionId, Watermarks]:
        """What each partition holds now.

        Raises:
            NotFoundError: there is no such topic.
            IntegrityError: the source is not what it was.
            UnavailableError: the source does not answer.
        """
        ...

    def read(self, partition: PartitionId, start: int, limit: Limit) -> Records:
        """Read from `start` until the limit or the end of the partition, whichever comes first.

        It returns fewer records than asked only at `limit.until`, at the partition's end, or where more
        would take too much memory; a `next_offset` that is not `start` says that there may be more.

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


def readable(marks: Mapping[PartitionId, Watermarks], offsets: Mapping[str, int]) -> list[PartitionId]:
    """The partitions whose turn it is: those whose parents were read to the end.

    A parent that the source does not list any more has no records left, so nobody waits for it; that it
    was read to its end is for `check_offsets` to say.

    Args:
        marks: what the source holds.
        offsets: the committed next offset, by partition as text.
    """
    return [
        partition
        for partition, mark in marks.items()
        if all(offsets.get(str(p), marks[p].low) >= marks[p].high for p in mark.parents if p in marks)
    ]


def check_offsets(name: str, offsets: Mapping[str, int], marks: Mapping[PartitionId, Watermarks]) -> None:
    """Check that a source still holds all that was not read yet, in every partition that was begun.

    Raises:
        IntegrityError: a partition is gone and was not read to its end; or as `check_start`.
    """
    by_text = {str(partition): mark for partition, mark in marks.items()}
    for partition, offset in offsets.items():
        if partition in by_text:
            check_start(name, partition, offset, by_text[partition])
        elif offset < ENDED:
            raise IntegrityError(
                f"partition {partition} of {name} was read up to offset {offset} and is not there any more",
                "restore the source with all its partitions, or start a new table for the new source",
            )


def check_start(name: str, partition: PartitionId, start: int, marks: Watermarks) -> None:
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
    if start > (marks.high if marks.most is None else marks.most):
        raise IntegrityError(
            f"{place} was read up to offset {start}, and it ends at {marks.high}: offsets went back, "
            "as when a topic is made anew",
            "tell the events again if this is the development broker; otherwise restore the topic, or "
            "start a new table for the new topic",
        )

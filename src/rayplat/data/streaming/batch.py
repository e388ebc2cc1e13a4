"""The work on one partition: read, decode, check, and write Parquet files that are not committed yet.

Knows plain values in and plain values out, so that it runs in a Ray task as well as in the driver; it
does not know the catalog, and it commits nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa

from rayplat.core.project.table import Table
from rayplat.data.lakehouse.files import DataFile, FileWriter
from rayplat.data.streaming.fingerprint import fingerprint
from rayplat.data.streaming.formats.decoder import Decoder
from rayplat.data.streaming.lateness import advanced
from rayplat.data.streaming.sides import SIDES, Place
from rayplat.data.streaming.sources.source import Limit, PartitionId, Records, Source
from rayplat.data.streaming.verdict import Judged, judge


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with the records of one table, in whichever process; pickles.

    Attributes:
        table: the declaration, without its source (whose functions need not pickle).
        decoder: turns bytes into rows.
        good: writes the table's files; `sides`: those of each side table there is.
        wide: whether partitions and offsets are kept as text.
        deferred: whether the rows travel to the driver instead of being written here: where they are
            merged by key, or judged together with all others.
        batch_rows: the most records in one batch; `batch_bytes`: the most bytes, about.
    """

    table: Table
    decoder: Decoder
    good: FileWriter
    sides: Mapping[str, FileWriter]
    wide: bool = False
    deferred: bool = False
    batch_rows: int = 100_000
    batch_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Span:
    """What is to be read of one partition.

    Attributes:
        start: the offset to begin at; `until`: the high watermark that was seen.
        before: where `until` does not bound a read, the moment that does.
        held: by side table, the offsets from `start` on that it has already.
        watermark: the table's watermark, UTC.
        rows: the most records in one batch; 0: as many as the work says.
    """

    partition: PartitionId
    start: int
    until: int
    before: datetime | None = None
    held: Mapping[str, frozenset[int]] = field(default_factory=dict)
    watermark: datetime | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """A span, with all that a worker needs to read it; `open_source` must pickle."""

    open_source: Callable[[], Source]
    work: Work
    span: Span


@dataclass(frozen=True, slots=True)
class PartitionBatch:
    """Files with the records in [start, next_offset) of one partition.

    Attributes:
        received: how many records were read: rows + quarantined + dead + late + ignored.
        rows: how many are good; they are in `files`, or in `data` where the driver writes them.
        quarantined, dead, late: records put aside, those included that were put aside before a crash.
        ignored: records that say nothing new.
        bytes: how long all values together are.
        sides: the files of each side table.
        data: the good rows, where they are not in `files`.
        seen: the greatest event time among the good rows, UTC.
        last: the fingerprint of the last record.
    """

    partition: PartitionId
    start: int
    next_offset: int
    received: int
    rows: int
    quarantined: int = 0
    dead: int = 0
    late: int = 0
    ignored: int = 0
    bytes: int = 0
    files: tuple[DataFile, ...] = ()
    sides: Mapping[str, tuple[DataFile, ...]] = field(default_factory=dict)
    data: pa.Table | None = None
    seen: datetime | None = None
    last: str = ""


def read_partition(plan: PartitionPlan) -> Iterator[PartitionBatch]:
    """Read a partition up to the plan's end, a batch at a time, and write each batch's files.

    Raises:
        IntegrityError: records from the start on are not there any more.
        UnavailableError: the source or the schema registry falls silent.
    """
    span = plan.span
    with plan.open_source() as source:
        while span.start < span.until:
            batch = read_batch(source, plan.work, span)
            if batch is None:
                return  # an open transaction: its records are read when it has ended
            yield batch
            span = following(plan.work, span, batch)


def following(work: Work, span: Span, batch: PartitionBatch) -> Span:
    """The span that is left after a batch of it."""
    ahead = (
        (side, frozenset(o for o in offsets if o >= batch.next_offset)) for side, offsets in span.held.items()
    )
    return replace(
        span,
        start=batch.next_offset,
        held={side: offsets for side, offsets in ahead if offsets},
        watermark=advanced(span.watermark, batch.seen, datetime.now(UTC)),
        rows=rows_for(work, batch),
    )


def read_batch(source: Source, work: Work, span: Span) -> PartitionBatch | None:
    """Read one batch from the span's start on and write its files; None where nothing can be read now."""
    limit = Limit(span.until, span.rows or work.batch_rows, span.before)
    records = source.read(span.partition, span.start, limit)
    if records.next_offset <= span.start:
        return None
    place = Place(source.name, str(span.partition))
    judged = judge(
        records,
        place,
        work.table,
        work.decoder,
        wide=work.wide,
        held=span.held,
        watermark=span.watermark,
    )
    return _written(work, span, records, judged)


def rows_for(work: Work, batch: PartitionBatch) -> int:
    """How many records the next batch may have, so that it stays within the bytes, too."""
    if not batch.received or not batch.bytes:
        return work.batch_rows
    return max(1, min(work.batch_rows, work.batch_bytes * batch.received // batch.bytes))


def _written(work: Work, span: Span, records: Records, judged: Judged) -> PartitionBatch:
    return PartitionBatch(
        partition=span.partition,
        start=span.start,
        next_offset=records.next_offset,
        received=judged.received,
        rows=judged.good.num_rows,
        quarantined=judged.counts["quarantine"],
        dead=judged.counts["dead"],
        late=judged.counts["late"],
        ignored=judged.ignored,
        bytes=judged.bytes,
        files=() if work.deferred else tuple(work.good.write(judged.good)),
        sides={
            side: tuple(work.sides[side].write(judged.sides[side]))
            for side in SIDES
            if side in judged.sides and judged.sides[side].num_rows
        },
        data=judged.with_raw() if work.deferred else None,
        seen=judged.seen,
        # Kinesis proves by its own sequence numbers that nothing is missing; rows have no bytes.
        last="" if work.wide else fingerprint(records),
    )

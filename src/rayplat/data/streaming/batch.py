"""The work on one partition: read, decode, check, and write Parquet files that are not committed yet.

Knows plain values in and plain values out, so that it runs in a Ray task as well as in the driver; it
does not know the catalog, and it commits nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.project.table import Table
from rayplat.data.lakehouse.columns import OFFSET, PARTITION
from rayplat.data.lakehouse.files import write_file
from rayplat.data.quality.rows import faults
from rayplat.data.streaming.formats.json_records import Decoded, decode
from rayplat.data.streaming.sources.source import Limit, Records, Source

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("raw", pa.binary()),
        pa.field("quarantined_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""The columns of a quarantine table: the record as it came, where it came from, and why it is there."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where files are written: a table's location and its schema with field ids."""

    location: str
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """What is to be read of one partition.

    Attributes:
        open_source: opens the source; must pickle.
        start: the committed offset; `until`: the high watermark that was seen.
        batch_rows: the most records in one batch.
        table: the declaration, without its source (whose functions need not pickle).
        quarantined: offsets from `start` on that the quarantine has already.
    """

    open_source: Callable[[], Source]
    partition: int
    start: int
    until: int
    batch_rows: int
    table: Table
    good: Target
    quarantine: Target
    quarantined: frozenset[int]


@dataclass(frozen=True, slots=True)
class PartitionBatch:
    """Files with the records in [start, next_offset) of one partition; None where there are no rows.

    Attributes:
        received: how many records were read; accepted + quarantined + those quarantined before.
    """

    partition: int
    start: int
    next_offset: int
    received: int
    rows: int
    file: str | None
    quarantined: int
    quarantine_file: str | None


def read_partition(plan: PartitionPlan) -> Iterator[PartitionBatch]:
    """Read a partition up to the plan's end, a batch at a time, and write each batch's files.

    Raises:
        IntegrityError: records from the start on are not there any more.
        UnavailableError: the source falls silent.
    """
    with plan.open_source() as source:
        position = plan.start
        while position < plan.until:
            records = source.read(plan.partition, position, Limit(plan.until, plan.batch_rows))
            if records.next_offset <= position:
                return  # an open transaction: its records are read when it has ended
            yield _write(plan, source.name, position, records)
            position = records.next_offset


def _write(plan: PartitionPlan, source: str, start: int, records: Records) -> PartitionBatch:
    decoded = decode(records.values, plan.table.columns)
    offsets = np.asarray(records.offsets, dtype=np.int64)
    frame = decoded.frame.with_columns(
        pl.lit(plan.partition, dtype=pl.Int32).alias(PARTITION),
        pl.Series(OFFSET, offsets[np.asarray(decoded.rows, dtype=np.int64)], dtype=pl.Int64),
    )
    reason = faults(frame, plan.table)
    bad = _bad_rows(plan, source, records, decoded, reason)
    good = frame.filter(reason.is_null()) if reason.null_count() < reason.len() else frame
    if plan.quarantined:
        # A batch that died between its two commits: these offsets have had their verdict, and it stays
        # even where the checks were mended since.
        good = good.filter(~pl.col(OFFSET).is_in(sorted(plan.quarantined)))
    return PartitionBatch(
        partition=plan.partition,
        start=start,
        next_offset=records.next_offset,
        received=len(records.values),
        rows=good.height,
        file=_file(good.to_arrow(compat_level=pl.CompatLevel.oldest()), plan.good),
        quarantined=bad.num_rows,
        quarantine_file=_file(bad, plan.quarantine),
    )


def _bad_rows(
    plan: PartitionPlan, source: str, records: Records, decoded: Decoded, reason: pl.Series
) -> pa.Table:
    """The records that are no good rows and are not in the quarantine yet, by offset."""
    reasons = dict(decoded.bad)
    failed = np.flatnonzero(reason.is_not_null().to_numpy())
    texts = reason.gather(failed)
    reasons.update({decoded.rows[row]: text for row, text in zip(failed.tolist(), texts, strict=True)})
    indices = [i for i in sorted(reasons) if records.offsets[i] not in plan.quarantined]
    now = datetime.now(UTC)
    columns = {
        "source": [source] * len(indices),
        "partition": [plan.partition] * len(indices),
        "offset": [records.offsets[i] for i in indices],
        "reason": [reasons[i] for i in indices],
        "raw": [records.values[i] for i in indices],
        "quarantined_at": [now] * len(indices),
    }
    return pa.table(columns, schema=QUARANTINE_SCHEMA)


def _file(data: pa.Table, target: Target) -> str | None:
    return write_file(data, target.schema, target.location) if data.num_rows else None

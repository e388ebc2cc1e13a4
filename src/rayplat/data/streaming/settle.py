"""Settling: one round of batches becomes what is to be committed.

Knows the table checks and the merge by key, which need the rows of all partitions at once; it does not know
the order of the commits. Where a table has neither, the workers have written the files already, and
settling is adding up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from rayplat.core.errors import ConflictError
from rayplat.core.project.source import Debezium, Kafka, Kinesis
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.columns import OFFSET, PARTITION
from rayplat.data.lakehouse.files import DataFile, FileWriter
from rayplat.data.quality.findings import Verdict
from rayplat.data.streaming.batch import PartitionBatch
from rayplat.data.streaming.sides import QUARANTINE, QUARANTINE_SCHEMA, SIDES
from rayplat.data.streaming.verdict import DELETED, RAW

if TYPE_CHECKING:
    from rayplat.data.lakehouse.changes import Change

UPSERT = "upsert"
_MERGES = 20


@dataclass(slots=True)
class Round:
    """What one round commits.

    Attributes:
        batches: at most one a partition.
        files: of the good table; `sides`: of each side table.
        merged: the good rows that are still to be merged by key, in place of `files`.
        rows: accepted rows; `counts`: records put aside, by side table.
        findings: what the table checks want to be told, once the round is durable.
    """

    batches: Sequence[PartitionBatch]
    files: list[DataFile] = field(default_factory=list)
    sides: dict[str, list[DataFile]] = field(default_factory=dict)
    merged: pa.Table | None = None
    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    findings: Verdict | None = None


def deferred(table: Table) -> bool:
    """Whether a table's rows are judged or merged with all others before they are written."""
    return bool(table.table_checks) or table.mode == UPSERT


class Settler:
    """Settles the rounds of one table; kept from round to round, for the table checks remember.

    Args:
        lake: where the table is.
        table: the declaration.
        source: the source's name, for what is put aside.
        quarantine: writes quarantine files.
    """

    def __init__(self, lake: Lakehouse, table: Table, source: str, quarantine: FileWriter) -> None:
        from rayplat.data.quality.tables import TableChecks

        self._lake = lake
        self._table = table
        self._source = source
        self._quarantine = quarantine
        self._checks = TableChecks(lake, table) if table.table_checks else None

    def settle(self, batches: Sequence[PartitionBatch]) -> Round:
        """Add up a round; where rows were deferred, judge them and write what is good.

        Raises:
            UserError: a check with `on_fail="stop"` did not pass; nothing was committed.
        """
        round_ = Round(batches)
        round_.files = [file for batch in batches for file in batch.files]
        round_.sides = {side: [f for b in batches for f in b.sides.get(side, ())] for side in SIDES}
        round_.rows = sum(batch.rows for batch in batches)
        round_.counts = {
            "quarantine": sum(batch.quarantined for batch in batches),
            "dead": sum(batch.dead for batch in batches),
            "late": sum(batch.late for batch in batches),
        }
        if deferred(self._table):
            self._settle_rows(round_)
        return round_

    def _settle_rows(self, round_: Round) -> None:
        parts = [batch.data for batch in round_.batches if batch.data is not None]
        rows = pa.concat_tables(parts) if parts else None
        if rows is not None and self._checks is not None:
            rows = self._judge(rows, round_)
        if rows is None or not rows.num_rows:
            return
        rows = rows.drop_columns([RAW])
        if self._table.mode == UPSERT:
            round_.merged = rows
        else:
            round_.files = self._lake.table(self._table.name).write_files(rows)

    def _judge(self, rows: pa.Table, round_: Round) -> pa.Table:
        """The rows that the table checks let pass; the others go to the quarantine."""
        if self._checks is None:
            return rows
        frame = pl.DataFrame(pl.from_arrow(rows))
        judged = frame if DELETED not in frame.columns else frame.filter(~pl.col(DELETED))
        found = self._checks.judge(judged, datetime.now(UTC))
        found.enforce(self._table.name)
        round_.findings = found
        reasons = found.quarantine
        if reasons is None:
            return rows
        bad = judged.with_columns(reasons.alias("reason")).filter(reasons.is_not_null())
        place = [PARTITION, OFFSET]
        good = frame.join(bad.select(place), on=place, how="anti", maintain_order="left")
        round_.sides[QUARANTINE] += self._quarantine.write(self._set_aside(bad))
        round_.counts[QUARANTINE] += bad.height
        round_.rows -= bad.height
        return good.to_arrow(compat_level=pl.CompatLevel.oldest())

    def _set_aside(self, bad: pl.DataFrame) -> pa.Table:
        shown = bad.select(
            pl.lit(self._source).alias("source"),
            pl.col(PARTITION).cast(pl.String).alias("partition"),
            pl.col(OFFSET).cast(pl.String).alias("offset"),
            pl.col("reason"),
            pl.col(RAW).alias("raw"),
            pl.lit(datetime.now(UTC), dtype=pl.Datetime("us", "UTC")).alias("quarantined_at"),
        )
        return shown.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(QUARANTINE_SCHEMA)

    def merge(self, rows: pa.Table) -> "Change":
        """What merging rows by key changes in the table as it is now."""
        from rayplat.data.lakehouse.changes import merge

        return merge(
            self._lake.table(self._table.name),
            rows,
            self._table.key,
            order_by=order_of(self._table),
            deleted=DELETED if DELETED in rows.column_names else None,
        )


def order_of(table: Table) -> list[str]:
    """By which columns the last row of a key wins: event time first, but for envelopes the source's order."""
    enveloped = isinstance(table.source, Kafka | Kinesis) and isinstance(table.source.envelope, Debezium)
    by_time = [table.event_time] if table.event_time and not enveloped else []
    return [*by_time, PARTITION, OFFSET]


def tries() -> range:
    """How often a merge is planned anew because another writer was faster."""
    return range(_MERGES)


def give_up(table: str) -> ConflictError:
    """What is said when every merge was overtaken."""
    return ConflictError(
        f"other writers of {table} were faster {_MERGES} times than a merge", "run the ingest again"
    )

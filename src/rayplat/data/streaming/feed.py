"""A feed: one table, its source, and how far the one has been brought into the other.

Knows what is to be read from where on and what a worker must be given; it does not know where workers run
(see `executor`, `service`), nor how the commits of a round are ordered (see `ledger`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from rayplat.core.errors import IntegrityError, UserError
from rayplat.core.events import EventBus
from rayplat.core.project.source import Database, Files, Json, Kafka, Kinesis, Stream
from rayplat.core.project.table import Table
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.lakehouse.schema import arrow_schema
from rayplat.data.streaming.batch import PartitionBatch, PartitionPlan, Span, Work
from rayplat.data.streaming.fingerprint import check_fingerprints
from rayplat.data.streaming.formats.decoder import Decoder, JsonDecoder, decoder
from rayplat.data.streaming.ledger import Ledger
from rayplat.data.streaming.open import opener
from rayplat.data.streaming.report import IngestReport, dead_name, late_name, quarantine_name
from rayplat.data.streaming.settle import Settler, deferred
from rayplat.data.streaming.sides import DEAD, DEAD_SCHEMA, LATE, QUARANTINE, QUARANTINE_SCHEMA
from rayplat.data.streaming.sources.source import PartitionId, Source, Watermarks, check_offsets, readable


def nowhere(_point: str) -> None:
    """Nobody wants to know."""


class Feed:
    """What feeds one table. It makes the table and its side tables where they are not there yet.

    Args:
        table: a table whose source is a stream.
        bus: is told of every snapshot of the table, after it is durable.
        on_point: called at each of `ledger.CRASH_POINTS`; a seam for fault tests.
        open_source: opens another source than the declared one; must pickle for Ray.

    Raises:
        UserError: the table is not fed by a stream, or cannot become what is declared.
    """

    def __init__(
        self,
        lake: Lakehouse,
        table: Table,
        settings: Settings,
        bus: EventBus,
        *,
        on_point: Callable[[str], None] = nowhere,
        open_source: Callable[[], Source] | None = None,
    ) -> None:
        if not isinstance(table.source, get_args(Stream)):
            raise UserError(
                f"table {table.name} is not fed by a stream",
                "declare source=rp.Kafka(topic), rp.Kinesis(…), rp.Files(…) or rp.Database(…)",
            )
        self.table = table
        self.opener = open_source or opener(table, settings)
        self.on_point = on_point
        with self.opener() as source:
            self.name, self.wide, identity = source.name, source.wide, identity_of(source)
        good = lake.ensure(table)
        tables = {side: lake.ensure_schema(name, schema) for side, name, schema in _sides(table)}
        writers = {side: stored.writer() for side, stored in tables.items()}
        self.work = Work(
            table=replace(table, source=None),
            decoder=_decoder(table, settings),
            good=good.writer(),
            sides=writers,
            wide=self.wide,
            deferred=deferred(table),
            batch_rows=settings.ingest.batch_rows,
            batch_bytes=settings.ingest.batch_bytes,
        )
        self.ledger = Ledger(
            FencedCommitter(lake, good.name, self.name),
            {side: FencedCommitter(lake, stored.name, self.name) for side, stored in tables.items()},
            Settler(lake, table, self.name, writers[QUARANTINE]),
            bus,
            on_point=on_point,
            identity=identity,
        )
        _check_identity(self.name, self.ledger.source_id, identity)
        self.starts: dict[str, int] = {}
        self._proven = False

    def plans(self, marks: Mapping[PartitionId, Watermarks]) -> list[PartitionPlan]:
        """What is to be read: of each partition whose turn it is, from its committed offset on.

        Args:
            marks: what the source holds now.

        Raises:
            IntegrityError: records were removed before they were read, offsets went back, or the source
                was made anew.
        """
        offsets = self.ledger.offsets
        check_offsets(self.name, offsets, marks)
        if not self._proven:
            self._prove(marks)
        self.starts = {str(p): offsets.get(str(p), self.starts.get(str(p), m.low)) for p, m in marks.items()}
        return [
            PartitionPlan(self.opener, self.work, self.span(partition, marks[partition]))
            for partition in readable(marks, offsets)
            if self.starts[str(partition)] < marks[partition].high
        ]

    def _prove(self, marks: Mapping[PartitionId, Watermarks]) -> None:
        """Look once, before anything is read, whether the source is still the one that was read."""
        if self.ledger.last_records:
            with self.opener() as source:
                check_fingerprints(source, self.ledger.last_records, marks)
        self._proven = True

    def span(self, partition: PartitionId, mark: Watermarks) -> Span:
        """What is left of one partition, from where the table stands to the high watermark."""
        start = self.starts[str(partition)]
        return Span(
            partition=partition,
            start=start,
            until=mark.high,
            before=mark.as_of,
            held=self.ledger.held_from(partition, start),
            watermark=self.ledger.watermark,
        )

    def commit(self, batches: Sequence[PartitionBatch]) -> dict[str, str]:
        """Commit one round; what is returned and raised is as in `Ledger.commit`."""
        properties = self.ledger.commit(batches, self.starts)
        self.on_point("before_write")
        return properties

    def report(self) -> IngestReport:
        """What has been committed since the feed was made."""
        totals = self.ledger.totals
        return IngestReport(
            table=self.table.name,
            rows=totals["rows"],
            quarantined=totals[QUARANTINE],
            snapshots=tuple(self.ledger.snapshots),
            offsets=dict(self.ledger.offsets),
            dead=totals[DEAD],
            late=totals[LATE],
            ignored=totals["ignored"],
        )


def identity_of(source: Source) -> str:
    """What a source says that it is, beyond its name; empty where it does not say."""
    tell = getattr(source, "identity", None)
    return str(tell()) if tell is not None else ""


def _check_identity(name: str, committed: str, found: str) -> None:
    if committed and found and committed != found:
        raise IntegrityError(
            f"{name} was made anew: its records were read from {committed}, and it is {found} now",
            "its offsets mean other records now: restore the old one, or start a new table for the new one",
        )


def _sides(table: Table) -> list[tuple[str, str, object]]:
    sides: list[tuple[str, str, object]] = [
        (QUARANTINE, quarantine_name(table), QUARANTINE_SCHEMA),
        (DEAD, dead_name(table), DEAD_SCHEMA),
    ]
    if table.late is not None and table.late.policy == "side":
        sides.append((LATE, late_name(table), arrow_schema(table)))
    return sides


def _decoder(table: Table, settings: Settings) -> Decoder:
    source = table.source
    if isinstance(source, Kafka | Kinesis):
        if isinstance(source.format, Json) and source.envelope is None:
            return JsonDecoder(table.columns)
        return decoder(
            source.format,
            table.columns,
            settings.schema_registry,
            envelope=source.envelope,
            key=table.key,
        )
    if isinstance(source, Files | Database):
        return JsonDecoder(table.columns)
    raise UserError(f"table {table.name} is not fed by a stream", "declare its source")

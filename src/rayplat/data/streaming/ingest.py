"""The ingest: records of a source become rows of a table, each exactly once, or are quarantined.

Knows what is to be read and from where on; it does not know Kafka's protocol, Ray, or how the two
commits of a round are ordered (see `ledger`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from rayplat.core.errors import IntegrityError, UserError
from rayplat.core.events import EventBus
from rayplat.core.project.project import Project
from rayplat.core.project.source import Kafka, Reference
from rayplat.core.project.table import Table
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.streaming.batch import QUARANTINE_SCHEMA, PartitionPlan, Target
from rayplat.data.streaming.development.broker import resolve_bootstrap
from rayplat.data.streaming.executor import Executor, InlineExecutor, RayExecutor
from rayplat.data.streaming.ledger import Ledger
from rayplat.data.streaming.reference import ingest_reference
from rayplat.data.streaming.report import IngestReport, quarantine_name
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.source import Source, Watermarks, check_start

_INLINE_RECORDS = 10_000


def _nowhere(_point: str) -> None:
    """Nobody wants to know."""


def ingest_once(
    lake: Lakehouse,
    table: Table,
    settings: Settings,
    bus: EventBus,
    *,
    executor: Executor | None = None,
    on_point: Callable[[str], None] = _nowhere,
    open_source: Callable[[], Source] | None = None,
) -> IngestReport:
    """Read what a table's source holds now, and commit it.

    Args:
        table: a table whose source is Kafka.
        settings: where Kafka is, and how many records make a batch.
        bus: is told of every snapshot of the table, after it is durable.
        executor: where partitions are worked on; if None, Ray tasks (Ray must be connected), or this
            process where so little is new that tasks would cost more than the work.
        on_point: called at each of `ledger.CRASH_POINTS`; a seam for fault tests.
        open_source: opens another source than the table's topic; must pickle for Ray.

    Raises:
        ConflictError: another ingest of this table is running; nothing was doubled.
        IntegrityError: records were removed before they were read, or offsets went back.
        UnavailableError: the source or a worker does not answer; what was committed stays.
        UserError: the table is not fed by Kafka, or cannot become what is declared.
    """
    opener = open_source or _opener(table, settings)
    good = lake.ensure(table)
    quarantine = lake.ensure_schema(quarantine_name(table), QUARANTINE_SCHEMA)
    with opener() as source:
        name, marks = source.name, source.watermarks()
    ledger = Ledger(
        FencedCommitter(lake, good.name, name), FencedCommitter(lake, quarantine.name, name), bus, on_point
    )
    _check_offsets(name, ledger.offsets, marks)
    starts = {str(p): ledger.offsets.get(str(p), mark.low) for p, mark in marks.items()}
    template = PartitionPlan(
        open_source=opener,
        partition=0,
        start=0,
        until=0,
        batch_rows=settings.ingest.batch_rows,
        table=replace(table, source=None),
        good=Target(good.location(), good.file_schema()),
        quarantine=Target(quarantine.location(), quarantine.file_schema()),
        quarantined=frozenset(),
    )
    plans = _plans(template, ledger, starts, marks)
    on_point("before_write")
    for batches in (executor or _executor_for(plans)).run(plans) if plans else ():
        ledger.commit(batches, starts)
        on_point("before_write")
    return IngestReport(
        table=table.name,
        rows=ledger.rows,
        quarantined=ledger.quarantined,
        snapshots=ledger.snapshots,
        offsets=dict(ledger.offsets),
    )


def ingest_project(
    lake: Lakehouse, project: Project, settings: Settings, bus: EventBus, *, executor: Executor | None = None
) -> list[IngestReport]:
    """Ingest every table of a project that has a source, in declared order; a report a table.

    Raises:
        RayplatError: as `ingest_once` and `ingest_reference` do; earlier tables stay ingested.
    """
    reports = []
    for table in project.tables:
        if isinstance(table.source, Kafka):
            reports.append(ingest_once(lake, table, settings, bus, executor=executor))
        elif isinstance(table.source, Reference):
            reports.append(ingest_reference(lake, table, bus))
        else:
            lake.ensure(table)
    return reports


def _opener(table: Table, settings: Settings) -> Callable[[], Source]:
    if not isinstance(table.source, Kafka):
        raise UserError(f"table {table.name} is not fed by Kafka", "declare source=rp.Kafka(topic)")
    return partial(
        KafkaSource,
        resolve_bootstrap(settings),
        table.source.topic,
        settings.kafka.options,
        timeout_s=settings.ingest.poll_timeout_s,
    )


def _executor_for(plans: Sequence[PartitionPlan]) -> Executor:
    """Where to work: a few thousand records are read sooner than a task starts, and in one commit."""
    backlog = sum(plan.until - plan.start for plan in plans)
    return InlineExecutor() if backlog <= _INLINE_RECORDS else RayExecutor()


def _plans(
    template: PartitionPlan, ledger: Ledger, starts: Mapping[str, int], marks: Mapping[int, Watermarks]
) -> list[PartitionPlan]:
    """One plan for every partition that holds something new."""
    return [
        replace(
            template,
            partition=partition,
            start=starts[str(partition)],
            until=mark.high,
            quarantined=ledger.quarantined_from(partition, starts[str(partition)]),
        )
        for partition, mark in marks.items()
        if starts[str(partition)] < mark.high
    ]


def _check_offsets(name: str, committed: Mapping[str, int], marks: Mapping[int, Watermarks]) -> None:
    for partition, offset in committed.items():
        if int(partition) not in marks:
            raise IntegrityError(
                f"partition {partition} of {name} was read up to offset {offset} and is not there any more",
                "restore the topic with all its partitions, or start a new table for the new topic",
            )
        check_start(name, int(partition), offset, marks[int(partition)])

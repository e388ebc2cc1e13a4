"""The ingest: records of a source become rows of a table, each exactly once, or are put aside.

Knows one pass over what a source holds now; it does not know any source's protocol, Ray, or how the commits
of a round are ordered (see `ledger`). What goes on for ever is `service`.
"""

from collections.abc import Callable, Sequence
from typing import get_args

from rayplat.cluster.owners import declared
from rayplat.core.events import EventBus
from rayplat.core.project.project import Project
from rayplat.core.project.source import Reference, Stream
from rayplat.core.project.table import Table
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.batch import PartitionPlan
from rayplat.data.streaming.executor import Executor, InlineExecutor, RayExecutor
from rayplat.data.streaming.feed import Feed, nowhere
from rayplat.data.streaming.reference import ingest_reference
from rayplat.data.streaming.report import IngestReport
from rayplat.data.streaming.sources.source import Source

_INLINE_RECORDS = 10_000


def ingest_once(
    lake: Lakehouse,
    table: Table,
    settings: Settings,
    bus: EventBus,
    *,
    executor: Executor | None = None,
    on_point: Callable[[str], None] = nowhere,
    open_source: Callable[[], Source] | None = None,
) -> IngestReport:
    """Read what a table's source holds now, and commit it.

    Args:
        table: a table whose source is a stream.
        settings: where the source is, and how many records make a batch.
        bus: is told of every snapshot of the table, after it is durable.
        executor: where partitions are worked on; if None, Ray tasks (Ray must be connected), or this
            process where so little is new that tasks would cost more than the work.
        on_point: called at each of `ledger.CRASH_POINTS`; a seam for fault tests.
        open_source: opens another source than the declared one; must pickle for Ray.

    Raises:
        ConflictError: another ingest of this table is running; nothing was doubled.
        IntegrityError: records were removed before they were read, or offsets went back.
        UnavailableError: the source or a worker does not answer; what was committed stays.
        UserError: the table is not fed by a stream, or cannot become what is declared.
    """
    feed = Feed(lake, table, settings, bus, on_point=on_point, open_source=open_source)
    with feed.opener() as source:
        marks = source.watermarks()
    done: set[object] = set()
    on_point("before_write")
    # A partition whose parents were read to their end in this pass (a split shard) has its turn then.
    while plans := [plan for plan in feed.plans(marks) if plan.span.partition not in done]:
        done |= {plan.span.partition for plan in plans}
        with declared("ingest", table.name):
            for batches in (executor or _executor_for(plans)).run(plans):
                feed.commit(batches)
    return feed.report()


def ingest_project(
    lake: Lakehouse, project: Project, settings: Settings, bus: EventBus, *, executor: Executor | None = None
) -> list[IngestReport]:
    """Ingest every table of a project that has a source, in declared order; a report a table.

    Raises:
        RayplatError: as `ingest_once` and `ingest_reference` do; earlier tables stay ingested.
    """
    reports = []
    for table in project.tables:
        if isinstance(table.source, get_args(Stream)):
            reports.append(ingest_once(lake, table, settings, bus, executor=executor))
        elif isinstance(table.source, Reference):
            reports.append(ingest_reference(lake, table, bus))
        else:
            lake.ensure(table)
    return reports


def _executor_for(plans: Sequence[PartitionPlan]) -> Executor:
    few = sum(plan.span.until - plan.span.start for plan in plans) <= _INLINE_RECORDS
    return InlineExecutor() if few else RayExecutor()

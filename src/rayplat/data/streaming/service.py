"""The ingest service: all tables of a project, fed until somebody says stop.

Knows supervision: a thread a table, what is tried again, when all end; it does not know how a table is fed
(see `pump`). A table that cannot go on stops the service after the others have committed what they have
read: a supervisor that starts it again sees the error, and nothing runs half.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import get_args

from rayplat.core.errors import UnavailableError
from rayplat.core.events import EventBus
from rayplat.core.project.project import Project
from rayplat.core.project.source import Reference, Stream
from rayplat.core.project.table import Table
from rayplat.core.settings import Settings
from rayplat.core.telemetry import counter, get_logger
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.batch import Work
from rayplat.data.streaming.feed import Feed, nowhere
from rayplat.data.streaming.pump import Pump
from rayplat.data.streaming.readers import RayReaders, Readers
from rayplat.data.streaming.reference import ingest_reference
from rayplat.data.streaming.report import IngestReport
from rayplat.data.streaming.sources.source import Source

OpenSource = Callable[[], Source]
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 10.0


class IngestService:
    """Feeds tables, each in a thread of its own.

    Args:
        lake: where the tables are; every thread opens it for itself.
        settings: triggers, sources and how often is tried again.
        bus: is told of every snapshot; one thread at a time.
        readers: makes the readers of one table; Ray actors if not given (Ray must be connected).
        on_point: called at each of `ledger.CRASH_POINTS`; a seam for fault tests.
        open_source: opens another source than the declared ones; must pickle for Ray.
    """

    def __init__(
        self,
        lake: Lakehouse,
        settings: Settings,
        bus: EventBus,
        *,
        readers: Callable[[OpenSource, Work], Readers] = RayReaders,
        on_point: Callable[[str], None] = nowhere,
        open_source: OpenSource | None = None,
    ) -> None:
        self._lake = lake
        self._settings = settings
        self._bus = _OneAtATime(bus)
        self._readers = readers
        self._on_point = on_point
        self._open_source = open_source
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._reports: dict[str, IngestReport] = {}

    def stop(self) -> None:
        """Let every table commit what was read, and end. Safe in a signal handler."""
        self._stop.set()

    def run(self, project: Project) -> list[IngestReport]:
        """Feed all tables of a project until `stop`; reference tables are looked at once.

        Returns:
            What was committed, a report a table.

        Raises:
            RayplatError: what made a table unable to go on; the others have committed what they had read.
        """
        references = [t for t in project.tables if isinstance(t.source, Reference)]
        streams = [t for t in project.tables if isinstance(t.source, get_args(Stream))]
        reports = [ingest_reference(self._lake, table, self._bus) for table in references]
        return [*reports, *self.feed(streams)]

    def feed(self, tables: Sequence[Table]) -> list[IngestReport]:
        """Feed these tables until `stop`; what is returned and raised is as in `run`."""
        threads = [
            threading.Thread(target=self._guarded, args=(table,), name=f"ingest-{table.name}")
            for table in tables
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            # With a timeout, because a signal handler runs only when the main thread is not blocked.
            while thread.is_alive():
                thread.join(0.2)
        if self._errors:
            raise self._errors[0]
        return [self._reports[table.name] for table in tables if table.name in self._reports]

    def _guarded(self, table: Table) -> None:
        try:
            self._supervise(table)
        except BaseException as error:  # it is raised by the main thread
            self._errors.append(error)
            self._stop.set()

    def _supervise(self, table: Table) -> None:
        """Pump, and pump again from what was committed when something does not answer."""
        failures = 0
        lake = Lakehouse(self._settings)
        try:
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    self._pump(lake, table)
                except UnavailableError as error:
                    long_lived = time.monotonic() - begun > _LONGEST_WAIT_S
                    failures = 1 if long_lived else failures + 1
                    if failures > self._settings.ingest.restarts:
                        raise
                    self._tell_restart(table.name, error)
                    self._stop.wait(min(_FIRST_WAIT_S * 2 ** (failures - 1), _LONGEST_WAIT_S))
        finally:
            lake.close()

    def _pump(self, lake: Lakehouse, table: Table) -> None:
        settings = self._settings.ingest
        feed = Feed(
            lake, table, self._settings, self._bus, on_point=self._on_point, open_source=self._open_source
        )
        readers = self._readers(feed.opener, feed.work)
        try:
            with feed.opener() as source:
                pump = Pump(
                    feed, source, readers, trigger_s=settings.trigger_s, trigger_rows=settings.trigger_rows
                )
                self._on_point("before_write")
                pump.run(self._stop.is_set)
        finally:
            readers.close()
            self._add(feed.report())

    def _add(self, report: IngestReport) -> None:
        """Keep what a feed has committed; after a restart, with what those before it had."""
        before = self._reports.get(report.table)
        if before is not None:
            report = report.after(before)
        self._reports[report.table] = report

    def _tell_restart(self, table: str, error: Exception) -> None:
        counter("ingest_restarts_total", "Times a table's feed was started again", ["table"]).labels(
            table
        ).inc()
        get_logger("data.ingest").warning("restart", table=table, reason=str(error))


class _OneAtATime(EventBus):
    """Delivers the events of several threads to listeners that know of one."""

    def __init__(self, bus: EventBus) -> None:
        super().__init__()
        self._bus = bus
        self._lock = threading.Lock()

    def emit(self, event: object) -> None:
        """Deliver `event` before returning."""
        with self._lock:
            self._bus.emit(event)  # type: ignore[arg-type]  # whatever the bus takes

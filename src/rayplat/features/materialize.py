"""Materialization: new rows of the sources go to the online store, each once, wherever it was stopped.

Knows how far each view has come and what to read next; it does not know which rows are kept
(`online`) nor how a store writes them.

A source that is fed by a log is read from the offsets that the view has consumed, so a row that comes
late is read like any other; a reference table is read whole when its snapshot changes. Values and
progress are written in one transaction: after a kill at any point the next run continues.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from rayplat.core.errors import IntegrityError
from rayplat.core.events import Event, EventBus
from rayplat.core.project.view import FeatureView, View
from rayplat.core.telemetry import get_logger
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.lake import Lake, offset_filter, to_frame
from rayplat.features.online.apply import write_rows
from rayplat.features.online.kept import encode_schema
from rayplat.features.online.keys import store_key
from rayplat.features.online.store import OnlineStore, Progress
from rayplat.features.plan import Plan, plan
from rayplat.features.point_in_time import needed

STEP_ROWS = 250_000
"""About how many source rows are read, merged and written at once."""


@dataclass(frozen=True, slots=True)
class MaterializeReport:
    """What a run has done for one view.

    Attributes:
        view: the view's name.
        rows: source rows read.
        entities: entries written.
        snapshot_id: the snapshot of the source that the online values now hold; None where it has none.
        offsets: the next offset to read, by partition.
    """

    view: str
    rows: int
    entities: int
    snapshot_id: int | None
    offsets: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesMaterialized(Event):
    """The online values of a view hold its source up to a snapshot."""

    view: str
    table: str
    rows: int
    snapshot_id: int | None
    offsets: Mapping[str, int]


def materialize(
    lake: Lake,
    online: OnlineStore,
    views: Sequence[View],
    bus: EventBus | None = None,
    step_rows: int = STEP_ROWS,
) -> list[MaterializeReport]:
    """Bring the online values of `views` up to the current snapshots. Request views have none.

    Emits `FeaturesMaterialized` for each view that has read something.

    Raises:
        NotFoundError: a source table does not exist.
        ConflictError: another process materializes the same view; nothing is lost, run again.
        IntegrityError: the online store has consumed more than the source holds.
    """
    wanted = [view for view in views if isinstance(view, FeatureView)]
    sources: dict[str, _Source] = {}
    reports = []
    for view in sorted(wanted, key=lambda v: v.source.name):
        if view.source.name not in sources:
            # One source at a time keeps its rows in memory.
            sharing = [v for v in wanted if v.source.name == view.source.name]
            sources = {view.source.name: _Source(lake, view.source.name, sharing)}
        report = _one_view(sources[view.source.name], online, plan(view), view, step_rows)
        reports.append(report)
        if report.rows:
            get_logger(__name__).info(
                "materialized", view=view.name, rows=report.rows, entities=report.entities
            )
        if bus is not None and report.rows:
            bus.emit(
                FeaturesMaterialized(
                    view=view.name,
                    table=view.source.name,
                    rows=report.rows,
                    snapshot_id=report.snapshot_id,
                    offsets=report.offsets,
                )
            )
    order = [view.name for view in wanted]
    return sorted(reports, key=lambda report: order.index(report.view))


class _Source:
    """A source as it stands at the start of a run, for all views that read it.

    The rows that were read last are kept: views that have come equally far read them once.
    """

    def __init__(self, lake: Lake, name: str, views: Sequence[FeatureView]) -> None:
        self._table = lake.table(name)
        schema = self._table.schema()
        wanted = [*(c for view in views for c in plan(view).columns), PARTITION, OFFSET]
        self._schema = pa.schema([schema.field(c) for c in dict.fromkeys(wanted) if c in schema.names])
        self.name = name
        self.snapshot = self._table.snapshot_id()
        self.logged = PARTITION in schema.names and OFFSET in schema.names
        self._ends: list[Mapping[str, int]] | None = None
        self._last: tuple[str | None, pl.DataFrame] | None = None

    def ends(self) -> list[Mapping[str, int]]:
        """The offsets after each commit, oldest first."""
        if self._ends is None:
            self._ends = [s.offsets for s in self._table.history() if s.offsets]
        return self._ends

    def read(self, where: str | None) -> pl.DataFrame:
        """Rows of the snapshot, with the columns of all views."""
        if self._last is None or self._last[0] != where:
            data = self._schema.empty_table()
            if self.snapshot is not None:
                data = self._table.read(self._schema.names, snapshot_id=self.snapshot, where=where)
            self._last = (where, to_frame(data))
        return self._last[1]


@dataclass(frozen=True, slots=True)
class _Step:
    """Rows to read at once, the progress after them, and whether they replace all others."""

    where: str | None
    offsets: Mapping[str, int]
    snapshot: int | None
    whole: bool


def _one_view(
    source: _Source, online: OnlineStore, prepared: Plan, view: FeatureView, step_rows: int
) -> MaterializeReport:
    key = store_key(prepared)
    progress = online.read(lambda reader: reader.progress(key))
    rows = entities = 0
    for step in _steps(source, progress, step_rows, view):
        read = needed(source.read(step.where), prepared)
        reached = Progress(step.snapshot, step.offsets, encode_schema(read))
        entities += write_rows(online, prepared, read, reached, expected=progress, whole=step.whole)
        rows += read.height
        progress = reached
    offsets = dict(progress.offsets) if progress else {}
    return MaterializeReport(view.name, rows, entities, progress.snapshot_id if progress else None, offsets)


def _steps(source: _Source, progress: Progress | None, step_rows: int, view: FeatureView) -> Iterator[_Step]:
    if progress is not None and progress.snapshot_id == source.snapshot:
        return
    if not source.logged or (progress is None and not source.ends()):
        # An empty log is materialized too: questions are then answered with nothing known.
        yield _Step(None, {}, source.snapshot, whole=True)
        return
    start = dict(progress.offsets) if progress else {}
    end = source.ends()[-1] if source.ends() else {}
    ahead = {p: o for p, o in start.items() if o > end.get(p, 0)}
    if ahead:
        raise IntegrityError(
            f"the online values of {view.name!r} have consumed {ahead}, but {source.name!r} ends at {end}",
            "the table was made anew: remove the online store and materialize again",
        )
    before = progress.snapshot_id if progress else None
    for high in _cuts(start, source.ends(), step_rows):
        # The snapshot counts as consumed only with its last rows: a run that is killed before continues.
        reached = source.snapshot if high == end else before
        yield _Step(offset_filter(start, high), high, reached, whole=False)
        start = dict(high)


def _cuts(
    start: Mapping[str, int], ends: Sequence[Mapping[str, int]], step_rows: int
) -> Iterator[Mapping[str, int]]:
    """Where to stop on the way: at ends of commits, about `step_rows` apart, and at the last."""
    low = dict(start)
    for i, end in enumerate(ends):
        size = sum(max(0, o - low.get(p, 0)) for p, o in end.items())
        if size >= step_rows or (size and i == len(ends) - 1):
            low = {p: max(o, low.get(p, 0)) for p, o in {**low, **end}.items()}
            yield dict(low)

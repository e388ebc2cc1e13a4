"""Backfill: the rows of a stretch of event time, into the online store, whatever was read before.

Knows which rows of which files a stretch names; it does not know how a store writes them.

A view that was never materialized stands afterwards at the end of its source, as if all of it had been read:
`materialize` continues from there, and what lies outside of the stretch comes only with another backfill.
A view that has come somewhere stays where it is: rows that it has read already, and a backfill that is made
twice, change nothing.
"""

from collections.abc import Sequence
from datetime import datetime

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView, View
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import utc
from rayplat.features.lake import Lake, LakeTable, logged, offset_filter, to_frame
from rayplat.features.materialize import MaterializeReport
from rayplat.features.online.apply import write_rows
from rayplat.features.online.kept import encode_schema
from rayplat.features.online.keys import store_key
from rayplat.features.online.store import OnlineStore, Progress
from rayplat.features.plan import plan
from rayplat.features.point_in_time import needed


def backfill(
    lake: Lake, online: OnlineStore, views: Sequence[View], start: datetime, end: datetime
) -> list[MaterializeReport]:
    """Bring rows with start <= event time < end into the online values of `views`.

    Only files that may hold such rows are read.

    Args:
        lake: the lakehouse.
        online: the store.
        views: views over tables that are fed by a log; views of the request have no values of their own.
        start: the first event time.
        end: the first event time that is no longer meant.

    Raises:
        UserError: a view's source has no event time or is not fed by a log, or a time has no zone.
        NotFoundError: a source table does not exist.
        ConflictError: another process materializes the same view; nothing is lost, run again.
    """
    first, last = utc(start), utc(end)
    return [_one_view(lake, online, v, (first, last)) for v in views if isinstance(v, FeatureView)]


def _one_view(
    lake: Lake, online: OnlineStore, view: FeatureView, stretch: tuple[datetime, datetime]
) -> MaterializeReport:
    prepared = plan(view)
    table = lake.table(view.source.name)
    if view.source.event_time is None or not logged(table):
        raise UserError(
            f"view {view.name!r} reads {view.source.name!r}, which has no event time or is not fed by a log",
            "materialize it without a stretch of time: it is read whole",
        )
    key = store_key(prepared)
    before = online.read(lambda reader: reader.progress(key))
    snapshot = table.snapshot_id()
    ends = dict(before.offsets) if before else _ends(table)
    columns = [*prepared.columns, PARTITION, OFFSET]
    time = view.source.event_time
    start, end = (at.isoformat() for at in stretch)
    within = f"{time} >= '{start}' and {time} < '{end}'"
    consumed = offset_filter({}, ends)
    data = table.schema().empty_table().select(columns)
    if snapshot is not None and consumed is not None:
        data = table.read(columns, snapshot_id=snapshot, where=f"({consumed}) and {within}")
    rows = needed(to_frame(data), prepared)
    reached = Progress(before.snapshot_id if before else snapshot, ends, encode_schema(rows))
    if before is not None:
        reached = Progress(before.snapshot_id, before.offsets, before.schema)
    written = write_rows(online, prepared, rows, reached, expected=before)
    return MaterializeReport(view.name, rows.height, written, reached.snapshot_id, dict(reached.offsets))


def _ends(table: LakeTable) -> dict[str, int]:
    """The next offset to read after all rows, by partition."""
    held = [snapshot.offsets for snapshot in table.history() if snapshot.offsets]
    return dict(held[-1]) if held else {}

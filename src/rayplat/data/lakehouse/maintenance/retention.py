"""Retention: rows whose event time is too long ago are deleted.

Knows by which column and how long; it does not know how rows are deleted (`change` does). The files stay
until the snapshots that name them expire, so that a wrong setting can be taken back until then.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyiceberg.conversions import from_bytes

from rayplat.data.lakehouse.change import delete
from rayplat.data.lakehouse.maintenance.compact import MAINTENANCE
from rayplat.data.lakehouse.maintenance.terms import retention_of
from rayplat.data.lakehouse.reachable import NamedFile, fetcher, live_files
from rayplat.data.lakehouse.table import LakeTable


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What was deleted, or with `dry_run` would be.

    Attributes:
        column: the event time; empty where the table keeps its rows for ever.
        before: rows of an earlier event time go; None with an empty column.
        whole_files: files of which every row goes; `partial_files`: of which some may go.
        rows: how many went; in a dry run, how many go with whole files: at least.
    """

    table: str
    dry_run: bool
    column: str
    before: datetime | None
    whole_files: int = 0
    partial_files: int = 0
    rows: int = 0


def retain(table: LakeTable, *, dry_run: bool = False, now: datetime | None = None) -> RetentionReport:
    """Delete the rows that are older than the table's declared retention.

    Raises:
        IntegrityError: the metadata is damaged.
        ConflictError: other writers were faster all the time; nothing was deleted.
    """
    base = table.base()
    declared = retention_of(base.head.properties)
    if declared is None:
        return RetentionReport(table.name, dry_run, "", None)
    column, keep = declared
    before = (now or datetime.now(UTC)).astimezone(UTC) - keep
    snapshot = base.head.snapshot(base.head.current_id) if base.head.current_id is not None else None
    files = live_files(snapshot, fetcher(base.publisher.systems)) if snapshot else []
    field = base.head.schema().find_field(column)
    spans = [(file, *_span(file, field.field_id, field.field_type)) for file in files]
    limit = int(before.timestamp() * 1_000_000)
    whole = [file for file, _, last in spans if last is not None and last < limit]
    partial = [file for file, first, last in spans if _may_hold(first, last, limit)]
    rows = sum(file.rows for file in whole)
    if not dry_run and (whole or partial):
        where = f"{column} < '{before.isoformat(timespec='microseconds')}'"
        rows = delete(table, where, {MAINTENANCE: "retention"}).deleted
    return RetentionReport(table.name, dry_run, column, before, len(whole), len(partial), rows)


def _span(file: NamedFile, field_id: int, kind: Any) -> tuple[int | None, int | None]:
    """The first and the last event time in a file, microseconds since 1970; None: not known."""
    return _bound(file.lower.get(field_id), kind), _bound(file.upper.get(field_id), kind)


def _bound(encoded: bytes | None, kind: Any) -> int | None:
    return int(from_bytes(kind, encoded)) if encoded else None


def _may_hold(first: int | None, last: int | None, limit: int) -> bool:
    return not (last is not None and last < limit) and (first is None or first < limit)

"""Whether a source still says the same about a past period, although rows were added since.

Knows snapshots, offsets and known times; it does not know what a training set looks like.

The rule: a source is unchanged for a period that ends at `until` when the pinned snapshot is an ancestor
of the current one, only appends (and compactions, which change no row) came since, and no row added since
is known before `until`. A point-in-time join up to `until` sees no other rows, so it gives the same
values on both snapshots. It is cheap: of a logged table only rows past the pinned offsets are read, which
are in new files alone. A table without a known time is unchanged only while its snapshot is the same.
"""

from collections.abc import Sequence
from datetime import datetime

from rayplat.core.project.table import Table
from rayplat.features.lake import LakeTable, Snapshot, logged, offset_filter

_KEEPS_ROWS = frozenset({"append", "replace"})


def known_before(column: str, until: datetime) -> str:
    """A filter for the rows that are known before `until`."""
    return f"{column} < '{until.isoformat()}'"


def offsets_of(history: Sequence[Snapshot]) -> dict[str, int]:
    """The next offset by partition after a history: that of the last snapshot which carries offsets."""
    for snapshot in reversed(history):
        if snapshot.offsets:
            return dict(snapshot.offsets)
    return {}


def unchanged(table: LakeTable, declared: Table, pinned: int | None, until: datetime) -> bool:
    """Whether a pinned snapshot and the current one agree on all rows known before `until`.

    Args:
        table: the source in the lakehouse.
        declared: its declaration.
        pinned: the snapshot that was read; None where the table was empty.
        until: the end of the period.
    """
    if table.snapshot_id() == pinned:
        return True
    history = list(table.history())
    ids = [snapshot.snapshot_id for snapshot in history]
    if pinned is not None and pinned not in ids:
        return False
    cut = 0 if pinned is None else ids.index(pinned) + 1
    since = history[cut:]
    if declared.told_by is None or any(s.operation.lower() not in _KEEPS_ROWS for s in since):
        return False
    before = known_before(declared.told_by, until)
    if logged(table):
        new = offset_filter(offsets_of(history[:cut]), offsets_of(history))
        return new is None or table.read([declared.told_by], where=f"({new}) and {before}").num_rows == 0
    then = 0 if pinned is None else _rows(table, declared.told_by, pinned, before)
    return _rows(table, declared.told_by, None, before) == then


def _rows(table: LakeTable, column: str, snapshot: int | None, where: str) -> int:
    return int(table.read([column], snapshot_id=snapshot, where=where).num_rows)

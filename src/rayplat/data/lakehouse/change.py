"""Changing rows by key and by filter, committed: planned again whenever another writer was faster.

Knows the retry; it does not know how a change is planned (see `changes`). A change is committed only on
the very table on which it was planned: a row that came meanwhile might be one that it should have seen.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
from pyiceberg.table import Table as NativeTable

from rayplat.core.errors import ConflictError
from rayplat.data.lakehouse.changes import Change, delete_keys_from, merge_into
from rayplat.data.lakehouse.changes_where import delete_where_from, overwrite_where_in
from rayplat.data.lakehouse.files import FileWriter
from rayplat.data.lakehouse.snapshot import ROWS, SnapshotAttempt
from rayplat.data.lakehouse.table import LakeTable

_RETRY_FOR_S = 120.0

Plan = Callable[[NativeTable, FileWriter], Change]
"""Plans a change on a table as it was loaded."""


def upsert(
    table: LakeTable,
    rows: pa.Table,
    key: Sequence[str],
    *,
    order_by: Sequence[str],
    deleted: str | None = None,
    properties: Mapping[str, str] | None = None,
) -> Change:
    """Insert rows or replace those of the same key, in one snapshot; see `changes.merge`.

    Returns:
        What was done.

    Raises:
        ConflictError: other writers were faster for two minutes; nothing was changed.
    """
    return commit(
        table,
        lambda native, writer: merge_into(native, writer, rows, key, order_by=order_by, deleted=deleted),
        properties,
    )


def delete_by_key(table: LakeTable, keys: pa.Table, properties: Mapping[str, str] | None = None) -> Change:
    """Delete the rows that have one of the keys, in one snapshot; see `changes.delete_keys`."""
    return commit(table, lambda native, writer: delete_keys_from(native, writer, keys), properties)


def delete(table: LakeTable, where: str, properties: Mapping[str, str] | None = None) -> Change:
    """Delete the rows for which a filter is true, in one snapshot; see `changes_where.delete_where`."""
    return commit(table, lambda native, writer: delete_where_from(native, writer, where), properties)


def overwrite(
    table: LakeTable, data: pa.Table, where: str, properties: Mapping[str, str] | None = None
) -> Change:
    """Replace the rows for which a filter is true, in one snapshot; see `changes_where.overwrite_where`."""
    return commit(table, lambda native, writer: overwrite_where_in(native, writer, data, where), properties)


def commit(table: LakeTable, plan: Plan, properties: Mapping[str, str] | None = None) -> Change:
    """Plan a change and commit it; where another writer was faster, plan it again on what that one left.

    Files that were written for a plan that lost are named by nobody, and `orphans` finds them.

    Returns:
        The change that was committed; one that changes nothing makes no snapshot.

    Raises:
        ConflictError: other writers were faster for two minutes; nothing was changed.
    """
    deadline = time.monotonic() + _RETRY_FOR_S
    wait = 0.01
    while True:
        base, native = table.base(), table.native()
        try:
            if native.metadata_location != base.head.address:
                raise ConflictError(f"table {table.name} was changed while it was loaded", "try again")
            change = plan(native, table.writer())
            if change.empty:
                return change
            told = {ROWS: str(change.inserted + change.updated), **(properties or {})}
            operation = "overwrite" if change.added and change.removed else ""
            if not change.added:
                operation = "delete"
            SnapshotAttempt(base, change.added, told, removed=change.removed, operation=operation).commit()
            return change
        except ConflictError:
            # Safe to repeat: a conflict wrote nothing that can be seen.
            if time.monotonic() > deadline:
                raise
            time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  # jitter, not a secret
            wait = min(wait * 2, 0.5)

"""Landing: how replayed rows get into their table, appended or merged by key, in one fenced commit.

Knows the table's mode and what a retry must not do; it does not know which rows are good.
"""

import random
import time
from collections.abc import Callable, Mapping

import polars as pl
import pyarrow as pa

from rayplat.core.errors import ConflictError
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.changes import merge
from rayplat.data.lakehouse.columns import OFFSET, PARTITION
from rayplat.data.lakehouse.commit import FencedCommitter

OP = "_op"
"""The column of decoded changes that says what became of a row: `upsert` or `delete`."""
_DELETED = "_deleted"
_RETRY_FOR_S = 60.0


class Landing:
    """Commits rows of one replayed source.

    Args:
        source: the source's name in snapshots.
        before: its offsets in the very history by which the records were found waiting: a replay that has
            committed since is noticed only so.
        on_written: called when the rows are in files that no snapshot names yet.
    """

    def __init__(
        self,
        lake: Lakehouse,
        table: Table,
        source: str,
        before: Mapping[str, int],
        on_written: Callable[[], None],
    ) -> None:
        self._lake, self._table, self.source = lake, table, source
        self._on_written = on_written
        self.before = dict(before)

    def commit(self, rows: pl.DataFrame, after: Mapping[str, int], told: Mapping[str, str]) -> int:
        """Commit rows and move the source's offsets from `before` to `after`.

        Args:
            rows: the table's columns; those of changes have `_op` too.
            told: what else the snapshot is to say of itself.

        Returns:
            The snapshot's id.

        Raises:
            ConflictError: another replay has committed, or other writers were faster for a minute.
        """
        if self._table.mode != "upsert":
            files = self._lake.table(self._table.name).write_files(_arrow(rows.drop(OP, strict=False)))
            self._on_written()
            return self._committer().commit(files, self.before, after, told)
        deadline = time.monotonic() + _RETRY_FOR_S
        while True:
            try:
                return self._merge(rows, after, told)
            except ConflictError:
                # A merge holds only for the very rows on which it was planned: it is planned again.
                if time.monotonic() > deadline or self._committer().committed() != self.before:
                    raise
                time.sleep(random.uniform(0.01, 0.1))  # noqa: S311  # jitter, not a secret

    def _merge(self, rows: pl.DataFrame, after: Mapping[str, int], told: Mapping[str, str]) -> int:
        target = self._lake.table(self._table.name)
        given = rows
        if OP in rows.columns:
            given = rows.with_columns((pl.col(OP) == "delete").alias(_DELETED)).drop(OP)
        first = [self._table.event_time] if self._table.event_time else []
        order_by = [*first, *(name for name in (PARTITION, OFFSET) if name in rows.columns)]
        deleted = _DELETED if OP in rows.columns else None
        change = merge(target, _arrow(given), self._table.key, order_by=order_by, deleted=deleted)
        self._on_written()
        return self._committer().commit(
            change.added, self.before, after, told, removed=change.removed, based_on=change.based_on
        )

    def _committer(self) -> FencedCommitter:
        return FencedCommitter(self._lake, self._table.name, self.source)


def _arrow(rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())

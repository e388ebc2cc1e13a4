"""Source rows as they stood when a vector was served.

Knows which snapshot of a table still tells what an older one told; it does not know what is made of the rows.

A snapshot that only appends came after tells the same below the offsets that the older one had. So one
read serves every vector between two changes that rewrite rows (an erasure, an upsert, an overwrite).
A table that is not fed by a log has no offsets: it is read at the very snapshot that was materialized.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from rayplat.core.project.table import Table
from rayplat.features.lake import Lake, LakeTable, logged, read_pinned
from rayplat.features.training_pins import known_before, offsets_of

_KEEPS_ROWS = frozenset({"append", "replace"})


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a view had come, as it was logged.

    Attributes:
        digest: of the definition; None: not logged.
        snapshot_id: the snapshot of the source; None: none, or not logged.
        offsets: the next offset by partition; None: not logged.
    """

    digest: str | None
    snapshot_id: int | None
    offsets: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of one vector are read.

    Attributes:
        snapshot_id: the snapshot to read; None: the table was empty.
        offsets: what the store had consumed of it; None: all of it.
        sure: whether the log tells so; else it is the newest that there is.
        gone: whether the logged snapshot is no part of the table's history any more.
    """

    snapshot_id: int | None
    offsets: Mapping[str, int] | None
    sure: bool = True
    gone: bool = False


class SourceTable:
    """A source of views. Rows that were read are kept.

    Args:
        lake: the lakehouse.
        declared: the source.
        columns: what the views need of it, without the system columns.
        until: no later known rows are needed.
    """

    def __init__(self, lake: Lake, declared: Table, columns: Sequence[str], until: datetime) -> None:
        self._lake = lake
        self._declared = declared
        self._columns = columns
        self._until = until
        self._rows: dict[int | None, pl.DataFrame] = {}
        table: LakeTable = lake.table(declared.name)
        self.logged = logged(table)
        self._history = list(table.history())
        self._current = table.snapshot_id()
        self._index = {snapshot.snapshot_id: i for i, snapshot in enumerate(self._history)}
        self._stays = self._last_alike()

    def place(self, standing: Standing | None) -> Place:
        """Where the rows of a vector are, from what the log tells of it."""
        if standing is None or (standing.snapshot_id is None and standing.offsets is None):
            return Place(self._current, None, sure=False)
        snapshot = standing.snapshot_id
        if snapshot is not None and snapshot not in self._index:
            return Place(None, None, gone=True)
        if not self.logged:
            return Place(snapshot, None)
        at = 0 if snapshot is None else self._index[snapshot]
        offsets = standing.offsets
        if offsets is None:
            offsets = offsets_of(self._history[: at + 1])
        return Place(self._stays[at] if self._stays else None, dict(offsets))

    def rows(self, snapshot_id: int | None) -> pl.DataFrame:
        """The rows of a snapshot that are known up to `until`; none where there is no snapshot."""
        if snapshot_id not in self._rows:
            self._rows[snapshot_id] = self._read(snapshot_id)
        return self._rows[snapshot_id]

    def _read(self, snapshot_id: int | None) -> pl.DataFrame:
        name, told = self._declared.name, self._declared.told_by
        after = self._until.replace(microsecond=0) + timedelta(seconds=1)
        where = None if told is None else known_before(told, after)
        if snapshot_id is None and self._current is not None:
            return read_pinned(self._lake, name, self._columns, {name: self._current}, where).clear()
        pinned = {} if snapshot_id is None else {name: snapshot_id}
        return read_pinned(self._lake, name, self._columns, pinned, where)

    def _last_alike(self) -> list[int]:
        """For each snapshot the last one after it before rows were rewritten."""
        stays: list[int] = []
        last = None
        for snapshot, after in zip(self._history[::-1], [None, *self._history[:0:-1]], strict=True):
            if last is None or (after is not None and after.operation.lower() not in _KEEPS_ROWS):
                last = snapshot.snapshot_id
            stays.append(last)
        return stays[::-1]


def distinct_places(places: Sequence[Place]) -> dict[int | None, list[int]]:
    """Positions of places by the snapshot that is read; those that are gone are left out."""
    found: dict[int | None, list[int]] = {}
    for i, place in enumerate(places):
        if not place.gone:
            found.setdefault(place.snapshot_id, []).append(i)
    return found

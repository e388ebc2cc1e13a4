"""Snapshots: one attempt to make a new one, and what past ones say of themselves.

Knows how files become a snapshot of a table in one step; it does not know whose files they are, nor
when to try again.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rayplat.core.errors import ConflictError, IntegrityError, RayplatError
from rayplat.data.lakehouse.archive import Archive
from rayplat.data.lakehouse.avro import ManifestRecord
from rayplat.data.lakehouse.files import DataFile
from rayplat.data.lakehouse.head import Head, SnapshotRecord, next_time
from rayplat.data.lakehouse.manifests import Manifests, Removal
from rayplat.data.lakehouse.offsets import OFFSETS, SOURCE, carried, parse_offsets
from rayplat.data.lakehouse.publish import Publisher
from rayplat.data.lakehouse.summary import summary

ROWS = "rayplat.rows"
_KEPT_IN_METADATA = 100


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a snapshot says of itself.

    Attributes:
        at: when it was committed, UTC.
        operation: `append`, `replace` (no row changed), `overwrite` or `delete`.
        rows_added: rows in the files it added; `rows_total`: rows in the table after it.
        source: where its rows came from; empty if it does not say.
        offsets: the next offset to read from the source, by partition; empty if it carries none.
        properties: everything else in its summary.
        live: whether it can still be read.
    """

    snapshot_id: int
    at: datetime
    operation: str
    rows_added: int
    rows_total: int
    source: str
    offsets: dict[str, int]
    properties: dict[str, str]
    live: bool = True


@dataclass(frozen=True, slots=True)
class Base:
    """What an attempt builds on: a table as it was loaded.

    Attributes:
        name: the table's name; `head`: its metadata then.
        publisher: where the next metadata goes; `archive`: where crowded-out snapshots go.
    """

    name: str
    head: Head
    publisher: Publisher
    archive: Archive

    def manifests(self) -> Manifests:
        """Reads and writes the table's manifests."""
        head = self.head
        return Manifests(head.location, head.schema(), head.specs(), self.publisher.systems)


@dataclass(frozen=True, slots=True)
class Crowded:
    """Snapshots that leave the metadata, and what the new one must say in their place."""

    dropped: list[int]
    told: dict[str, str]


class SnapshotAttempt:
    """One attempt to make a snapshot of the table as it was loaded; used once.

    The snapshot's id is known before the commit, so that after a lost acknowledgement the table can
    be asked whether the attempt has landed.

    Args:
        base: the table, freshly loaded: the attempt succeeds only if nobody commits in between.
        files: data files to add; may be empty.
        properties: what the snapshot is to say of itself.
        removed: addresses of live files to take out; None: all of them.
        operation: what it does; found from files and removed where empty.
    """

    def __init__(
        self,
        base: Base,
        files: Sequence[DataFile],
        properties: Mapping[str, str],
        *,
        removed: Collection[str] | None = (),
        operation: str = "",
    ) -> None:
        self._base = base
        self._files = files
        self._properties = properties
        self._removed = removed
        self._operation = operation or ("append" if removed is not None and not removed else "overwrite")
        self.snapshot_id = secrets.randbits(62) | 1

    def commit(self) -> int:
        """Commit, once.

        Returns:
            The snapshot's id.

        Raises:
            ConflictError: somebody else has committed since the table was loaded, or a file to be taken
                out is not live; nothing was changed.
            Exception: anything else leaves the outcome unknown: load the table and look for the id.
        """
        head = self._base.head
        try:
            snapshot, dropped = self._prepare(head)
        except FileNotFoundError as error:
            raise self._overtaken(error) from error
        self._base.publisher.publish(self._base.name, head, snapshot, dropped)
        return self.snapshot_id

    def _prepare(self, head: Head) -> tuple[SnapshotRecord, list[int]]:
        """Write what the snapshot names; returns it, and the snapshots that leave the metadata."""
        parent = head.snapshot(head.current_id) if head.current_id is not None else None
        manifests = self._base.manifests()
        removal = self._remove(manifests, manifests.of(parent["manifest-list"]) if parent else [])
        added = manifests.added(self._files, self.snapshot_id)
        listed = manifests.merged(added, removal.manifests, self.snapshot_id)
        crowded = self._crowd_out()
        sequence = int(head.document["last-sequence-number"]) + 1
        snapshot: SnapshotRecord = {
            "snapshot-id": self.snapshot_id,
            "sequence-number": sequence,
            "timestamp-ms": next_time(head),
            "manifest-list": manifests.write_list(listed, self.snapshot_id, head.current_id, sequence),
            "summary": summary(
                self._operation,
                [f.described for f in self._files],
                removal.files,
                parent,
                {**self._properties, **crowded.told},
            ),
            "schema-id": head.document["current-schema-id"],
        }
        if parent:
            snapshot["parent-snapshot-id"] = parent["snapshot-id"]
        return snapshot, crowded.dropped

    def _overtaken(self, error: FileNotFoundError) -> RayplatError:
        # Whoever was paused for longer than maintenance waits finds its manifests replaced and deleted.
        name = self._base.name
        if self._base.publisher.head(name).address != self._base.head.address:
            return ConflictError(f"other writers of {name} were faster", "load the table and try again")
        return IntegrityError(
            f"table {name} names a file that is not there: {error.filename}",
            "restore it from a backup, or roll back to a snapshot that does not name it",
        )

    def _remove(self, manifests: Manifests, kept: Sequence[ManifestRecord]) -> Removal:
        if self._removed is None:
            paths = {str(e["data_file"]["file_path"]) for m in kept for e in manifests.entries(m)}
            return manifests.without(kept, paths, self.snapshot_id)
        if not self._removed:
            return Removal(list(kept), [])
        removal = manifests.without(kept, self._removed, self.snapshot_id)
        missing = set(self._removed) - {str(f["file_path"]) for f in removal.files}
        if missing:
            raise ConflictError(
                f"{len(missing)} files of {self._base.name} were replaced by another writer meanwhile",
                "plan the change again",
            )
        return removal

    def _crowd_out(self) -> Crowded:
        """What goes to the archive, once twice as many snapshots are there as the metadata should hold."""
        head = self._base.head
        if len(head.snapshots) < 2 * _KEPT_IN_METADATA:
            return Crowded([], {})
        line = list(head.lineage())
        stay, old = line[:_KEPT_IN_METADATA], line[_KEPT_IN_METADATA:]
        self._base.archive.remember(head.uuid, old)
        named = head.referenced()
        dropped = [s["snapshot-id"] for s in old if s["snapshot-id"] not in named]
        return Crowded(dropped, carried(stay, line))


def describe(snapshot: Mapping[str, Any]) -> SnapshotInfo:
    """What a snapshot says of itself, as a value."""
    told = dict(snapshot.get("summary", {}))
    operation = told.pop("operation", "")
    offsets = told.get(OFFSETS)
    return SnapshotInfo(
        snapshot_id=int(snapshot["snapshot-id"]),
        at=datetime.fromtimestamp(snapshot["timestamp-ms"] / 1000, UTC),
        operation=operation,
        rows_added=int(told.get("added-records", 0)),
        rows_total=int(told.get("total-records", 0)),
        source=told.get(SOURCE, ""),
        offsets=parse_offsets(offsets, snapshot["snapshot-id"]) if offsets else {},
        properties=told,
        live=bool(snapshot.get("live", True)),
    )

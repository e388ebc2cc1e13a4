"""One table of the lakehouse: read at any snapshot, appended to, replaced.

Knows rows as Arrow; it does not know sources and their offsets (see `commit`).
"""

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table as NativeTable
from pyiceberg.table.snapshots import Snapshot

from rayplat.core.errors import ConflictError, NotFoundError
from rayplat.data.lakehouse.archive import Archive
from rayplat.data.lakehouse.datasource import task_files
from rayplat.data.lakehouse.files import DataFile, FileWriter
from rayplat.data.lakehouse.head import Head, SnapshotRecord
from rayplat.data.lakehouse.parts import RowGroup, row_groups
from rayplat.data.lakehouse.publish import Publisher
from rayplat.data.lakehouse.scan import Scan, Verify, plan
from rayplat.data.lakehouse.schema import plain, with_field_ids
from rayplat.data.lakehouse.snapshot import ROWS, Base, SnapshotAttempt, SnapshotInfo, describe
from rayplat.data.lakehouse.travel import At, Reference, branch, drop, references, resolve, tag

_RETRY_FOR_S = 120.0
_SPLIT_BYTES = 64 * 2**20


class LakeTable:
    """A table by name. Every method sees the table as it is now, unless a snapshot is named.

    Args:
        name: `namespace.name`.
        publisher: gives the catalog's tables as they are, and moves them.
        archive: where snapshots are that the metadata does not hold any more.
        storage: how Polars reaches a bucket (see `lazy.storage_options`).
    """

    def __init__(
        self,
        name: str,
        publisher: Callable[[], Publisher],
        archive: Archive,
        storage: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.archive = archive
        self._storage = storage or {}
        self._publisher = publisher

    def head(self) -> Head:
        """The table's metadata as it is now; only for this package."""
        return self._publisher().head(self.name)

    def base(self) -> Base:
        """What an attempt to commit builds on; only for this package."""
        return Base(self.name, self.head(), self._publisher(), self.archive)

    def native(self, *, archived: bool = False) -> NativeTable:
        """The pyiceberg table, freshly loaded; `archived`: with the archived snapshots. For this package."""
        native = self._publisher().native(self.name)
        if archived:
            records = self.archive.recall(str(native.metadata.table_uuid), live=True)
            _add_snapshots(native, records)
        return native

    def location(self) -> str:
        """Where the table's files are."""
        return self.head().location

    def schema(self) -> pa.Schema:
        """The columns: types and nullability, without metadata."""
        return plain(self.head().schema().as_arrow())

    def file_schema(self) -> pa.Schema:
        """The columns with their Iceberg field ids: what a data file must be written with."""
        return self.writer().schema

    def snapshot_id(self) -> int | None:
        """The current snapshot; None before the first."""
        return self.head().current_id

    def history(self) -> list[SnapshotInfo]:
        """The snapshots that lead to the current one, oldest first; archived and expired ones too."""
        head = self.head()
        here = list(head.lineage())
        # A snapshot is archived before the metadata drops it, so it may be in both.
        known = {s["snapshot-id"] for s in here}
        past = [s for s in self.archive.recall(head.uuid) if s["snapshot-id"] not in known]
        return [describe(snapshot) for snapshot in [*past, *reversed(here)]]

    def count(self, snapshot_id: int | None = None) -> int:
        """How many rows there are, without reading any.

        Raises:
            NotFoundError: there is no such snapshot.
        """
        head = self.head()
        snapshot = self._snapshot(head, snapshot_id) if snapshot_id is not None else None
        if snapshot_id is None and head.current_id is not None:
            snapshot = head.snapshot(head.current_id)
        return describe(snapshot).rows_total if snapshot else 0

    def read(
        self, columns: Sequence[str] | None = None, snapshot_id: int | None = None, where: str | None = None
    ) -> pa.Table:
        """Read rows. The same snapshot gives the same rows in the same order.

        Args:
            columns: their names, in the order wanted; all if None.
            snapshot_id: the snapshot to read; the current one if None.
            where: an Iceberg row filter such as `"_partition = 0 and _offset >= 100"`; it prunes files.

        Raises:
            NotFoundError: there is no such snapshot or column.
            UserError: the filter cannot be read.
        """
        return self.scan(columns, where, snapshot_id).arrow()

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        at: At | None = None,
        verify: Verify = "never",
        *,
        fraction: float = 0.1,
    ) -> Scan:
        """Plan a read of a snapshot: an Arrow table, a Polars frame, torch batches or a Ray dataset.

        Args:
            columns: their names, in the order wanted; all if None.
            where: a row filter, as in `read`.
            at: a snapshot's id, a time, the name of a tag or a branch; the current snapshot if None.
            verify: whether files are compared with their digests first: `always`, `never`, or `sampled`:
                a random `fraction` of them.

        Raises:
            NotFoundError: there is no such snapshot or column.
            UserError: the filter cannot be read.
        """
        native = self._publisher().native(self.name)
        snapshot_id = resolve(native, at, self.history) if at is not None else None
        if snapshot_id is not None and native.snapshot_by_id(snapshot_id) is None:
            _add_snapshots(native, [self._snapshot(self.head(), snapshot_id)])
        return plan(
            native,
            snapshot_id,
            columns=columns,
            where=where,
            verify=verify,
            fraction=fraction,
            systems=self._publisher().systems,
            storage=self._storage,
        )

    def splits(self, columns: Sequence[str], snapshot_id: int | None = None) -> list[Scan]:
        """A scan in parts for tasks, in the order of `read`: neighbouring files, some 64 MiB in memory.

        Raises:
            NotFoundError: there is no such snapshot or column.
        """
        scan = self.scan(columns, at=snapshot_id)
        return [replace(scan, files=files) for files in task_files(scan, _SPLIT_BYTES) or [()]]

    def parts(self, columns: Sequence[str], snapshot_id: int | None = None) -> list[RowGroup]:
        """The rows of a snapshot by row group, in the order of `read`.

        Raises:
            NotFoundError: there is no such snapshot or column.
        """
        return row_groups(self.scan(columns, at=snapshot_id))

    def references(self) -> list[Reference]:
        """All tags and branches, sorted by name."""
        return references(self.native())

    def tag(self, name: str, snapshot_id: int | None = None) -> Reference:
        """Give a snapshot (the current one if None) a name that stays; expiry then leaves it alone.

        Raises:
            UserError: the name is taken or no name.
            NotFoundError: there is no such snapshot in the metadata; an archived one is kept by a pin.
        """
        return tag(self.native, name, snapshot_id)

    def branch(self, name: str, snapshot_id: int | None = None) -> Reference:
        """Begin a branch at a snapshot; see `tag`."""
        return branch(self.native, name, snapshot_id)

    def drop_reference(self, name: str) -> Reference:
        """Drop a tag or a branch; its snapshots may expire from now on.

        Raises:
            NotFoundError: there is none of this name.
        """
        return drop(self.native, name)

    def _snapshot(self, head: Head, snapshot_id: int) -> SnapshotRecord:
        """A snapshot that can be read, wherever it is kept."""
        found = head.snapshot(snapshot_id) or self.archive.find(head.uuid, snapshot_id)
        if found is None:
            raise NotFoundError(f"table {self.name} has no snapshot {snapshot_id}", "see the table's history")
        if not found.get("live", True):
            raise NotFoundError(
                f"snapshot {snapshot_id} of table {self.name} has expired: its files were deleted",
                "read a later one; `rayplat data history` shows which can be read",
            )
        return found

    def writer(self) -> FileWriter:
        """What writes data files for this table, in this process or in a task."""
        head = self.head()
        iceberg = head.schema()
        return FileWriter(
            name=self.name,
            location=head.location,
            schema=_file_schema(head.schema_json()),
            iceberg=iceberg,
            spec=head.spec(),
            order=head.order(),
            properties=dict(head.properties),
            systems=self._publisher().systems,
        )

    def write_files(self, data: pa.Table) -> list[DataFile]:
        """Write rows as data files that no snapshot names yet.

        Raises:
            UserError: the rows do not fit the table's columns.
        """
        return self.writer().write(data)

    def paths(self) -> set[str]:
        """The addresses of all live data files."""
        head = self.head()
        if head.current_id is None:
            return set()
        base = self.base()
        manifests = base.manifests()
        return {
            str(entry["data_file"]["file_path"])
            for manifest in manifests.of(self._snapshot(head, head.current_id)["manifest-list"])
            for entry in manifests.entries(manifest)
        }

    def append(self, data: pa.Table, properties: Mapping[str, str] | None = None) -> int:
        """Add rows in one snapshot; many writers may append at the same time.

        Returns:
            The snapshot's id.

        Raises:
            UserError: the rows do not fit the table's columns.
            ConflictError: other writers were faster for two minutes; nothing was written.
        """
        return self.replace(self.write_files(data), (), {ROWS: str(data.num_rows), **(properties or {})})

    def overwrite(self, data: pa.Table, properties: Mapping[str, str] | None = None) -> int:
        """Replace all rows in one snapshot; readers see the old rows or the new, never a mixture.

        Returns:
            The snapshot's id.

        Raises:
            UserError: the rows do not fit the table's columns.
            ConflictError: other writers were faster for two minutes; nothing was written.
        """
        return self.replace(self.write_files(data), None, {ROWS: str(data.num_rows), **(properties or {})})

    def replace(
        self,
        added: Sequence[DataFile],
        removed: Collection[str] | None,
        properties: Mapping[str, str] | None = None,
        *,
        based_on: int | None = None,
        operation: str = "",
    ) -> int:
        """Add files and take others out, in one snapshot.

        Args:
            removed: addresses of live files; None: all files of the table.
            based_on: the snapshot on which the change was planned. Where it is given, commits since then
                may only have appended, and a commit that took out one of `removed` is a conflict.
            operation: `append`, `overwrite`, `delete`, or `replace` where no row changes.

        Returns:
            The snapshot's id.

        Raises:
            ConflictError: a file to be taken out is not live any more, or other writers were faster for
                two minutes; nothing was written.
        """
        deadline = time.monotonic() + _RETRY_FOR_S
        wait = 0.01
        while True:
            base = self.base()
            if based_on is not None:
                self._check_only_appended(base.head, based_on, replaced=operation == "replace")
            attempt = SnapshotAttempt(base, added, properties or {}, removed=removed, operation=operation)
            try:
                return attempt.commit()
            except ConflictError:
                # Safe to repeat: a conflict wrote nothing, and the files are named by one snapshot only.
                if time.monotonic() > deadline or (removed and not set(removed) <= self.paths()):
                    raise
                time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  # jitter, not a secret
                wait = min(wait * 2, 0.5)

    def _check_only_appended(self, head: Head, based_on: int, *, replaced: bool) -> None:
        # A change that changes rows may miss rows that came meanwhile; one that only packs them may not.
        if replaced or head.current_id == based_on:
            return
        raise ConflictError(
            f"table {self.name} was changed by another writer meanwhile", "plan the change again"
        )


@lru_cache(maxsize=1024)
def _file_schema(schema_json: bytes) -> pa.Schema:
    return with_field_ids(Schema.model_validate_json(schema_json))


def _add_snapshots(native: NativeTable, records: Sequence[SnapshotRecord]) -> None:
    """Let a pyiceberg table see archived snapshots; its metadata on disk stays as it is."""
    have = {s.snapshot_id for s in native.metadata.snapshots}
    more = [Snapshot.model_validate(r) for r in records if r["snapshot-id"] not in have]
    if more:
        both = sorted([*more, *native.metadata.snapshots], key=lambda s: s.sequence_number or 0)
        native.metadata = native.metadata.model_copy(update={"snapshots": both})

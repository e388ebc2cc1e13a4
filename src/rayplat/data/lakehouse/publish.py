"""Publishing: the one step by which a commit becomes visible, a compare-and-swap in the catalog.

Knows catalogs; it does not know what a commit holds. The SQL catalog is swapped in one statement, by
us: pyiceberg would read, copy and check the whole metadata several times. Other catalogs swap through
pyiceberg's own client.
"""

import re
import threading
import uuid
from collections.abc import Callable, Collection
from typing import Any, Protocol

import orjson
import sqlalchemy as sa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table as NativeTable
from pyiceberg.table.metadata import TableMetadataUtil
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    SetSnapshotRefUpdate,
)

from rayplat.core.errors import ConflictError, IntegrityError, NotFoundError
from rayplat.data.lakehouse.head import MAIN, Head, SnapshotRecord, advanced, outdated
from rayplat.data.lakehouse.objects import FileSystems, get, put, remove

_ROWS = IcebergTables
_HERE = sa.and_(
    _ROWS.catalog_name == sa.bindparam("catalog"),
    _ROWS.table_namespace == sa.bindparam("namespace"),
    _ROWS.table_name == sa.bindparam("table"),
)
_POINTER = sa.select(_ROWS.metadata_location).where(_HERE)
_SWAP = (
    sa.update(_ROWS)
    .where(_HERE, _ROWS.metadata_location == sa.bindparam("old"))
    .values(metadata_location=sa.bindparam("new"), previous_metadata_location=sa.bindparam("old"))
)
_VERSION = re.compile(r"/(\d+)-[^/]*$")


class Publisher(Protocol):
    """The heads of a catalog's tables, and how they move."""

    systems: FileSystems

    def head(self, name: str) -> Head:
        """A table as it is now.

        Raises:
            NotFoundError: there is no such table.
        """
        ...

    def native(self, name: str) -> NativeTable:
        """The same as pyiceberg sees it."""
        ...

    def publish(self, name: str, head: Head, snapshot: SnapshotRecord, dropped: Collection[int]) -> None:
        """Make a snapshot the current one, if `head` is still the head.

        Raises:
            ConflictError: it is not; nothing was changed.
            Exception: anything else leaves the outcome unknown.
        """
        ...


class SqlPublisher:
    """Swaps the pointers of a SQL catalog. Keeps what it has read: a metadata file never changes."""

    def __init__(self, catalog: SqlCatalog, systems: FileSystems) -> None:
        self.systems = systems
        self._catalog = catalog
        self._heads: dict[str, Head] = {}
        self._natives: dict[str, NativeTable] = {}
        self._lock = threading.Lock()

    def head(self, name: str) -> Head:
        """A table as it is now.

        Raises:
            NotFoundError: there is no such table.
            IntegrityError: the metadata file is not there or no JSON.
        """
        address = self._pointer(name)
        known = self._heads.get(name)
        if known is None or known.address != address:
            known = Head(address, _document(get_checked(self.systems, name, address), name, address))
            self._heads[name] = known
        return known

    def native(self, name: str) -> NativeTable:
        """The same as pyiceberg sees it."""
        head = self.head(name)
        known = self._natives.get(name)
        if known is None or known.metadata_location != head.address:
            known = NativeTable(
                identifier=tuple(name.split(".")),
                metadata=TableMetadataUtil.parse_obj(dict(head.document)),
                metadata_location=head.address,
                io=self._catalog._load_file_io(dict(head.properties), head.address),
                catalog=self._catalog,
            )
            self._natives[name] = known
        # A copy: pyiceberg's tables change when they are refreshed or committed to.
        return NativeTable(known.name(), known.metadata, known.metadata_location, known.io, known.catalog)

    def publish(self, name: str, head: Head, snapshot: SnapshotRecord, dropped: Collection[int]) -> None:
        """Write the next metadata and swap the pointer to it.

        Raises:
            ConflictError: another commit was faster; nothing was changed.
        """
        document = advanced(head, snapshot, dropped)
        match = _VERSION.search(head.address)
        number = int(match[1]) + 1 if match else 1
        address = f"{head.location.rstrip('/')}/metadata/{number:05d}-{uuid.uuid4()}.metadata.json"
        put(self.systems, address, orjson.dumps(document))
        if not self._swap(name, head.address, address):
            remove(self.systems, address)
            raise ConflictError(f"another writer of {name} was faster", "load the table and try again")
        self._heads[name] = Head(address, document)
        for old in outdated(head):
            remove(self.systems, old)

    def _pointer(self, name: str) -> str:
        with self._catalog.engine.connect() as connection:
            found = connection.execute(_POINTER, self._place(name)).scalar_one_or_none()
        if found is None:
            raise NotFoundError(f"there is no table {name!r}", "see `rayplat data tables`")
        return str(found)

    def _swap(self, name: str, old: str, new: str) -> bool:
        told = {**self._place(name), "old": old, "new": new}
        with self._catalog.engine.begin() as connection:
            return connection.execute(_SWAP, told).rowcount == 1

    def _place(self, name: str) -> dict[str, str]:
        namespace, _, table = name.partition(".")
        return {"catalog": self._catalog.name, "namespace": namespace, "table": table}


class CatalogPublisher:
    """Publishes through any pyiceberg catalog, such as REST or Glue."""

    def __init__(self, catalog: Catalog, systems: FileSystems) -> None:
        self.systems = systems
        self._catalog = catalog

    def head(self, name: str) -> Head:
        """A table as it is now; NotFoundError where there is none."""
        native = self.native(name)
        document = orjson.loads(native.metadata.model_dump_json(by_alias=True, exclude_none=True))
        return Head(native.metadata_location, document)

    def native(self, name: str) -> NativeTable:
        """The table as pyiceberg sees it; NotFoundError where there is none."""
        from pyiceberg.exceptions import NoSuchTableError

        try:
            return self._catalog.load_table(name)
        except NoSuchTableError as error:
            raise NotFoundError(f"there is no table {name!r}", "see `rayplat data tables`") from error

    def publish(self, name: str, head: Head, snapshot: SnapshotRecord, dropped: Collection[int]) -> None:
        """Ask the catalog to add the snapshot, if the branch still stands where `head` has it.

        Raises:
            ConflictError: it does not; nothing was changed.
        """
        updates: tuple[Any, ...] = (
            AddSnapshotUpdate(snapshot=Snapshot.model_validate(snapshot)),
            SetSnapshotRefUpdate.model_validate(
                {"ref-name": MAIN, "type": SnapshotRefType.BRANCH, "snapshot-id": snapshot["snapshot-id"]}
            ),
        )
        if dropped:
            updates += (RemoveSnapshotsUpdate(snapshot_ids=list(dropped)),)
        requirements = (
            AssertTableUUID(uuid=uuid.UUID(head.uuid)),
            AssertRefSnapshotId(ref=MAIN, snapshot_id=head.current_id),
        )
        try:
            self._catalog.commit_table(self.native(name), requirements, updates)
        except CommitFailedException as error:
            raise ConflictError(
                f"another writer of {name} was faster: {error}", "load the table and try again"
            ) from error


def get_checked(systems: FileSystems, name: str, address: str) -> bytes:
    """A metadata file's bytes.

    Raises:
        IntegrityError: the catalog points to a file that is not there.
    """
    try:
        return get(systems, address)
    except FileNotFoundError as error:
        raise IntegrityError(
            f"the metadata of table {name} is not at {address}",
            "restore the warehouse and the database from the same backup",
        ) from error


def _document(content: bytes, name: str, address: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise IntegrityError(
            f"the metadata of table {name} at {address} is no JSON: {error}",
            "restore the file, or point the catalog to the metadata before it",
        ) from error
    return found


Publishers = Callable[[], Publisher]
"""Gives the publisher, which is made at first use."""

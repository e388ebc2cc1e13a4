"""The lakehouse: tables by name, made and widened as they are declared.

Knows the catalog; it does not know what is in a table.
"""

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import Table as NativeTable
from sqlalchemy.exc import IntegrityError as DatabaseIntegrityError

from rayplat.core.errors import ConflictError, NotFoundError, UserError
from rayplat.core.project.table import Table
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.alteration import alter, create
from rayplat.data.lakehouse.archive import Archive
from rayplat.data.lakehouse.catalogs import open_catalog
from rayplat.data.lakehouse.declared import Declared, declared
from rayplat.data.lakehouse.evolution import TablePlan, plan
from rayplat.data.lakehouse.lazy import storage_options
from rayplat.data.lakehouse.publish import CatalogPublisher, Publisher, SqlPublisher
from rayplat.data.lakehouse.storage import file_systems
from rayplat.data.lakehouse.table import LakeTable

_EVOLVE_TRIES = 20
_ASK_FIRST = ("drop", "rename", "relax")
"""Changes that nothing but `rayplat data apply` makes: they are seen by everybody who reads the table."""
_ADDS = ("add", "widen")


class Lakehouse:
    """All tables of one platform. It is opened at first use, and pickles as its settings.

    Args:
        settings: `warehouse`, `database`, `catalog` and `s3` say where tables and catalog are.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._opened: Catalog | None = None
        self._published: Publisher | None = None
        self._archive = Archive(settings.database)

    def __reduce__(self) -> tuple[type["Lakehouse"], tuple[Settings]]:
        return type(self), (self.settings,)

    @property
    def _catalog(self) -> Catalog:
        if self._opened is None:
            self._opened = open_catalog(self.settings)
        return self._opened

    def close(self) -> None:
        """Give the database connections back; the next use opens them again."""
        if self._opened is not None:
            self._opened.close()
            self._opened, self._published = None, None
        self._archive.close()

    def ensure(self, table: Table) -> LakeTable:
        """Make a declared table, or add and widen the columns that are newly declared so.

        What else is declared differently (layout, documentation, properties) waits for `apply`.

        Raises:
            UserError: columns are declared that the table cannot or may not silently get; nothing was
                changed.
        """
        return self._ensure(declared(table))

    def ensure_schema(self, name: str, schema: pa.Schema) -> LakeTable:
        """Make a table of the platform, or add and widen its columns.

        Args:
            name: `namespace.name`.
            schema: the columns; `nullable=False` becomes required.

        Raises:
            UserError: the name or a type is wrong, or the table exists with other columns.
            ConflictError: other processes keep changing the same table.
        """
        return self._ensure(Declared(name, schema))

    def _ensure(self, want: Declared) -> LakeTable:
        self._change(want, allow_drop=True, only_add=True)
        return self._bound(want.name)

    def plan(self, want: Declared, *, allow_drop: bool = False) -> TablePlan:
        """What it takes to make a table what is wanted; nothing is changed."""
        _split(want.name)
        native = self._find(want.name)
        return plan(native.metadata if native else None, want, allow_drop=allow_drop)

    def apply(self, want: Declared, *, allow_drop: bool = False) -> TablePlan:
        """Make a table what is wanted, in one transaction.

        Returns:
            What was done.

        Raises:
            UserError: it cannot become that; nothing was changed.
            ConflictError: other processes keep changing the same table.
        """
        return self._change(want, allow_drop=allow_drop, only_add=False)

    def _change(self, want: Declared, *, allow_drop: bool, only_add: bool) -> TablePlan:
        namespace = _split(want.name)[0]
        for _ in range(_EVOLVE_TRIES):
            native = self._find(want.name)
            found = plan(native.metadata if native else None, want, allow_drop=allow_drop)
            _check(found, only_add=only_add)
            try:
                if native is None:
                    self._ensure_namespace(namespace)
                    create(self._catalog, want)
                elif steps := [s for s in found.steps if not only_add or s.kind in _ADDS]:
                    alter(native, TablePlan(found.table, tuple(steps)), want)
                return found
            except (TableAlreadyExistsError, CommitFailedException):
                continue  # another process made or changed it just now: look again
        raise ConflictError(f"table {want.name} is being changed by others all the time", "try again")

    def _ensure_namespace(self, namespace: str) -> None:
        try:
            self._catalog.create_namespace_if_not_exists(namespace)
        except (NamespaceAlreadyExistsError, DatabaseIntegrityError):
            return  # another process made it in the same moment

    def _find(self, name: str) -> NativeTable | None:
        try:
            return self._catalog.load_table(name)
        except NoSuchTableError:
            return None

    def table(self, name: str) -> LakeTable:
        """A table that exists.

        Raises:
            NotFoundError: there is none of this name.
        """
        if not self.exists(name):
            known = ", ".join(self.names()) or "none yet"
            raise NotFoundError(f"there is no table {name!r}", f"tables: {known}")
        return self._bound(name)

    def _bound(self, name: str) -> LakeTable:
        storage = storage_options(self.settings.s3)
        return LakeTable(name, lambda: self._publisher, self._archive, storage)

    @property
    def _publisher(self) -> Publisher:
        if self._published is None:
            systems, catalog = file_systems(self.settings), self._catalog
            if isinstance(catalog, SqlCatalog):
                self._published = SqlPublisher(catalog, systems)
            else:
                self._published = CatalogPublisher(catalog, systems)
        return self._published

    def exists(self, name: str) -> bool:
        """Whether there is a table of this name."""
        _split(name)
        return bool(self._catalog.table_exists(name))

    def names(self) -> list[str]:
        """The names of all tables, sorted."""
        found = [
            ".".join(identifier)
            for namespace in self._catalog.list_namespaces()
            for identifier in self._catalog.list_tables(namespace)
        ]
        return sorted(found)


def _check(found: TablePlan, *, only_add: bool) -> None:
    asked = [s for s in found.steps if only_add and s.kind in _ASK_FIRST]
    reasons = [*found.refused, *(_REASONS[s.kind].format(s) for s in asked)]
    if not reasons:
        return
    mend = "declare a new table for what Iceberg does not allow"
    if asked:
        mend = "see `rayplat data plan`, and let `rayplat data apply` change the table"
    raise UserError(f"table {found.table} cannot become what is declared: {'; '.join(reasons)}", mend)


_REASONS = {
    "drop": "{0.subject} is in the table and no longer declared",
    "rename": "{0.what} is declared",
    "relax": "{0.subject} is not nullable and declared nullable",
}


def _split(name: str) -> tuple[str, str]:
    namespace, _, table = name.partition(".")
    if not namespace or not table or "." in table:
        raise UserError(f"{name!r} is not a table name", "write it as namespace.name, such as raw.departures")
    return namespace, table

"""The lakehouse: tables by name, made and widened as they are declared.

Knows the catalog; it does not know what is in a table.
"""

from typing import Any

import pyarrow as pa
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
from rayplat.data.lakehouse.database import open_catalog
from rayplat.data.lakehouse.schema import (
    added_columns,
    arrow_schema,
    documentation,
    iceberg_schema,
    iceberg_type,
)
from rayplat.data.lakehouse.table import LakeTable

_PROPERTIES = {
    # pyiceberg's own retry would let a second ingest driver commit the same offsets again; every retry
    # here is ours and looks at the table first.
    "commit.retry.num-retries": "0",
    "write.parquet.compression-codec": "zstd",
    # Each metadata file lists all snapshots: keeping every past one would grow with their square.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}
_EVOLVE_TRIES = 20


class Lakehouse:
    """All tables of one platform. It is opened at first use, and pickles as its settings.

    Args:
        settings: `warehouse` and `database` say where tables and catalog are.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._opened: SqlCatalog | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def _catalog(self) -> SqlCatalog:
        if self._opened is None:
            self._opened = open_catalog(self.settings.database, self.settings.warehouse)
        return self._opened

    def close(self) -> None:
        """Give the database connections back; the next use opens them again."""
        if self._opened is not None:
            self._opened.engine.dispose()
            self._opened = None

    def ensure(self, table: Table) -> LakeTable:
        """Make a declared table, or add the columns that are newly declared.

        Raises:
            UserError: the declaration changes more than that; nothing was changed.
        """
        return self.ensure_schema(table.name, arrow_schema(table))

    def ensure_schema(self, name: str, schema: pa.Schema) -> LakeTable:
        """Make a table of the platform, or add the columns that it lacks.

        Args:
            name: `namespace.name`.
            schema: the columns; `nullable=False` becomes required.

        Raises:
            UserError: the name or a type is wrong, or the table exists with other columns.
            ConflictError: other processes keep changing the same table.
        """
        namespace = _split(name)[0]
        for _ in range(_EVOLVE_TRIES):
            native = self._find(name)
            try:
                if native is None:
                    self._ensure_namespace(namespace)
                    self._catalog.create_table(name, iceberg_schema(schema, name), properties=_PROPERTIES)
                else:
                    self._widen(native, name, schema)
                return self._bound(name)
            except (TableAlreadyExistsError, CommitFailedException):
                continue  # another process made or widened it just now: look again
        raise ConflictError(f"table {name} is being changed by others all the time", "try again")

    def _widen(self, native: NativeTable, name: str, schema: pa.Schema) -> None:
        new = added_columns(name, native.schema().as_arrow(), schema)
        if new:
            with native.update_schema() as update:
                for field in new:
                    update.add_column(field.name, iceberg_type(field, name), doc=documentation(field))

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
        return LakeTable(name, lambda: self._catalog.load_table(name))

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


def _split(name: str) -> tuple[str, str]:
    namespace, _, table = name.partition(".")
    if not namespace or not table or "." in table:
        raise UserError(f"{name!r} is not a table name", "write it as namespace.name, such as raw.departures")
    return namespace, table

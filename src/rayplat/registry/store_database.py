"""MLflow's tables in the platform's database: made whole or not at all, then opened quickly.

Knows how MLflow's schema comes into a database that other parts share; it does not know what is kept
there (`store`). MLflow migrates an empty SQLite file in some fifty steps that are not one transaction:
a process killed in between leaves a database that no later migration accepts. So its schema is made
in a scratch file, and copied in one transaction.
"""

import logging
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rayplat.core.database import prepare_sqlite
from rayplat.core.errors import UnavailableError
from rayplat.core.settings_environment import set_for_sdk

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_BUSY_S = 60
# Read by MLflow from the environment alone, when it is imported: no usage telemetry leaves this
# machine, and no background thread is started for it.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def open_client(database: str) -> "MlflowClient":
    """A client on the database as tracking store and registry at once; makes the tables if need be.

    Raises:
        UnavailableError: the database does not open, or another version of MLflow wrote it.
    """
    set_for_sdk(_QUIET)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = database
    if database.startswith(_SQLITE):
        path = Path(database.removeprefix(_SQLITE).partition("?")[0])
        _ensure_tables(path)
        uri = f"{_SQLITE}{path}?timeout={_BUSY_S}"
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
    except MlflowException as error:
        raise UnavailableError(
            f"the registry's database does not open: {error.message}",
            f"take a backup, then run: mlflow db upgrade {database}",
        ) from error
    return client


def has_tables(path: Path) -> bool:
    """Whether MLflow's tables are in the SQLite file."""
    with closing(_connect(path)) as database:
        query = "SELECT count(*) FROM sqlite_master WHERE name IN ('alembic_version', 'experiments')"
        return bool(database.execute(query).fetchone()[0] == 2)


def _ensure_tables(path: Path) -> None:
    prepare_sqlite(path)
    if has_tables(path):
        return
    with _scratch() as scratch, closing(_connect(path)) as database:
        database.execute("ATTACH DATABASE ? AS scratch", (str(scratch),))
        database.execute("BEGIN IMMEDIATE")
        if not has_tables(path):  # nobody else was first, and nobody else can be now
            _copy(database)
        database.execute("COMMIT")


@contextmanager
def _scratch() -> Iterator[Path]:
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(prefix="rayplat-mlflow-") as folder:
        file = Path(folder) / "schema.db"
        MlflowClient(tracking_uri=f"{_SQLITE}{file}").search_experiments(max_results=1)
        yield file


def _copy(database: sqlite3.Connection) -> None:
    """Copy every table with its rows, then indexes and triggers, from `scratch` to the main file."""
    objects = database.execute(
        "SELECT type, name, sql FROM scratch.sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    tables = [(name, sql) for kind, name, sql in objects if kind == "table"]
    for _, sql in tables:
        database.execute(sql)
    for name, _ in tables:
        # table_info leaves out generated columns, which cannot be written.
        info = database.execute(f'PRAGMA scratch.table_info("{name}")').fetchall()
        columns = ", ".join(f'"{column[1]}"' for column in info)
        copy = f'INSERT INTO main."{name}" ({columns}) SELECT {columns} FROM scratch."{name}"'  # noqa: S608
        database.execute(copy)  # the names are MLflow's own, nobody types them
    for kind, _, sql in objects:
        if kind != "table":
            database.execute(sql)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)

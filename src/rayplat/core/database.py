"""The platform's database as its small logs need it: durable, one writer of a log at a time.

Knows how SQLite and Postgres are opened, and how a transaction keeps other writers of the same log
out; it does not know any table.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from rayplat.core.errors import UnavailableError

BUSY_TIMEOUT_S = 30.0
"""How long a writer of SQLite waits for another one."""


def open_database(url: str) -> sa.Engine:
    """Open `sqlite:///path` or `postgresql://...`; the folder of a SQLite file is made.

    SQLite runs in WAL mode with `synchronous=FULL`: a commit that returned survives a power cut.
    """
    parsed = sa.make_url(url)
    if not parsed.drivername.startswith("sqlite"):
        return sa.create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        prepare_sqlite(Path(parsed.database))
    engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would open transactions lazily, at the first write: a reader that turns into a writer then
    # fails at once when somebody else wrote in between. `_begin_sqlite` says BEGIN itself.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("rayplat_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def writing(engine: sa.Engine, lock: int) -> Iterator[sa.Connection]:
    """A transaction that no other writer under the same `lock` overlaps; committed at the end.

    On SQLite it is BEGIN IMMEDIATE (one writer of the file); on Postgres a transaction-level advisory
    lock, which is released after the commit is visible. So whatever is numbered inside is numbered in the
    order of the commits: who sees a number sees every lower one that will ever exist.

    Raises:
        UnavailableError: the database cannot be reached or stayed locked.
    """
    try:
        with engine.connect() as plain:
            connection = plain.execution_options(rayplat_writes=True)
            with connection.begin():
                if engine.dialect.name == "postgresql":
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
                yield connection
    except OperationalError as error:
        raise _unavailable(engine, error) from error


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that only reads: one consistent state, and no lock on SQLite's single writer.

    Raises:
        UnavailableError: the database cannot be reached.
    """
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except OperationalError as error:
        raise _unavailable(engine, error) from error


def open_tables(url: str, metadata: sa.MetaData, lock: int) -> sa.Engine:
    """Open a database with the tables of `metadata`; those that are not there are made.

    Where all are there, which one read tells, no writer is waited for.

    Raises:
        UnavailableError: the database cannot be reached.
    """
    engine = open_database(url)
    with reading(engine) as connection:
        there = set(sa.inspect(connection).get_table_names())
    if not there >= set(metadata.tables):
        ensure_tables(engine, metadata, lock)
    return engine


def ensure_tables(engine: sa.Engine, metadata: sa.MetaData, lock: int) -> None:
    """Make the tables of `metadata` that are not there; safe when several processes do it at once.

    Raises:
        UnavailableError: the database cannot be reached.
    """
    with writing(engine, lock) as connection:
        metadata.create_all(connection)


def _unavailable(engine: sa.Engine, error: OperationalError) -> UnavailableError:
    shown = engine.url.render_as_string(hide_password=True)
    return UnavailableError(
        f"the database {shown} does not answer: {error.orig}",
        "look at the setting `database`, the disk's free space, and who else holds the database",
    )


def prepare_sqlite(path: Path) -> None:
    """Make the folder, and set the write-ahead journal once; it is a property of the file.

    Readers then never wait for a writer, and writers wait for each other up to the busy timeout.

    Raises:
        UnavailableError: the file cannot be opened or stays locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            finally:
                connection.close()
            return
        except sqlite3.OperationalError as error:
            # Changing the journal does not honour the busy timeout, so it is waited for here.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise UnavailableError(
                    f"the database {path} cannot be opened: {error}", "see that its folder can be written"
                ) from error
            time.sleep(0.02)

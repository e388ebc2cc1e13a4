"""The catalog's database: opened so that many processes may use it at once.

Knows SQLite's journal and waits, and that Postgres needs neither; it does not know any table.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, ProgrammingError

from rayplat.core.database import BUSY_TIMEOUT_S, prepare_sqlite
from rayplat.core.errors import UnavailableError, UserError

_TRIES = 20


def open_catalog(database: str, warehouse: str, properties: Mapping[str, str] | None = None) -> SqlCatalog:
    """Open the SQL catalog named `rayplat`, and make its tables if there are none.

    Args:
        database: `sqlite:///path` or `postgresql://…`; other tables may live beside the catalog's.
        warehouse: where new tables are put: `file://`, `s3://` or `gs://`.
        properties: what else pyiceberg is told, such as how S3 is reached.

    Raises:
        UserError: the address is no database address.
        UnavailableError: the database does not answer.
    """
    url = _parse(database)
    if url.get_backend_name() == "sqlite" and url.database:
        prepare_sqlite(Path(url.database))
        url = url.update_query_dict({"timeout": str(int(BUSY_TIMEOUT_S))})
    address = url.render_as_string(hide_password=False)
    told = {"uri": address, "warehouse": warehouse, **(properties or {})}
    return _open(told, url.render_as_string(hide_password=True))


def _parse(database: str) -> URL:
    mend = "set `database` to sqlite:///path or postgresql://…"
    try:
        url = make_url(database)
    except ArgumentError as error:
        raise UserError(f"{database!r} is no database address", mend) from error
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        shown = url.render_as_string(hide_password=True)
        raise UserError(f"{shown!r} is no database address that the catalog can be kept in", mend)
    return url


def _open(told: Mapping[str, str], shown: str) -> SqlCatalog:
    last: Exception | None = None
    for _ in range(_TRIES):
        try:
            return SqlCatalog("rayplat", **told)
        except (OperationalError, ProgrammingError, IntegrityError) as error:
            # Two processes that open a new database both see no tables and both make them: one of
            # them fails here, and finds them made when it looks again.
            last = error
            if not _is_race(error):
                break
            time.sleep(0.05)
    raise UnavailableError(
        f"the catalog's database {shown} does not answer: {last}",
        "start it, or correct the setting `database`",
    ) from last


def _is_race(error: Exception) -> bool:
    text = str(error).lower()
    return "already exists" in text or "locked" in text or "unique" in text

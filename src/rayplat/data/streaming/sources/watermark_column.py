"""The watermark column of a database table: which types it may have, and its values as integers.

Knows SQLAlchemy's types and each database's clock; it does not know offsets.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rayplat.core.errors import UserError
from rayplat.core.secrets import mask

if TYPE_CHECKING:
    import sqlalchemy as sa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CLOCKS = {
    "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "postgresql": "SELECT clock_timestamp()",
    "mysql": "SELECT utc_timestamp(6)",
    "mariadb": "SELECT utc_timestamp(6)",
    "mssql": "SELECT sysutcdatetime()",
}


def open_engine(url: str) -> "sa.Engine":
    """An engine for an address.

    Raises:
        UserError: it is no address, or its driver is not installed.
    """
    import sqlalchemy as sa

    try:
        return sa.create_engine(url, pool_pre_ping=True)
    except (sa.exc.ArgumentError, ImportError) as error:
        raise UserError(
            f"{mask(url)!r} is no database that can be opened: {error}",
            "give an SQLAlchemy address such as postgresql+psycopg://user@host/name, and install its driver",
        ) from error


def shown(url: str) -> str:
    """An address without user, password and options; as it is named in snapshots."""
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return mask(url)
    plain = sa.URL.create(parsed.drivername, host=parsed.host, port=parsed.port, database=parsed.database)
    return plain.render_as_string()


def is_time(column: "sa.Column[Any]") -> bool:
    """Whether the watermark is a time, and not a number."""
    import sqlalchemy as sa

    return isinstance(column.type, sa.DateTime)


def check_kind(name: str, column: "sa.Column[Any]") -> None:
    """Check that a column can be a watermark.

    Raises:
        UserError: its type is neither a timestamp nor an integer.
    """
    import sqlalchemy as sa

    if not isinstance(column.type, sa.DateTime | sa.Integer):
        raise UserError(
            f"{name}: the watermark {column.name!r} is {column.type}, not a timestamp or an integer",
            "name another column as the watermark",
        )


def number_of(value: datetime | int) -> int:
    """A watermark as an integer: microseconds since 1970 for a time (UTC where it has no zone)."""
    if isinstance(value, datetime):
        return (value.replace(tzinfo=value.tzinfo or UTC) - _EPOCH) // _MICROSECOND
    return int(value)


def bound(column: "sa.Column[Any]", number: int) -> Any:
    """An integer as a value that the column can be compared with."""
    if not is_time(column):
        return number
    value = _EPOCH + number * _MICROSECOND
    return value if getattr(column.type, "timezone", False) else value.replace(tzinfo=None)


def now(connection: "sa.Connection") -> datetime:
    """The database's own clock, UTC."""
    import sqlalchemy as sa

    statement = _CLOCKS.get(connection.dialect.name)
    told = connection.execute(sa.text(statement) if statement else sa.select(sa.func.now())).scalar()
    value = datetime.fromisoformat(told) if isinstance(told, str) else told
    if not isinstance(value, datetime):
        raise UserError(f"the database's clock says {told!r}", "use an integer as the watermark")
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)

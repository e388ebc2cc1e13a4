"""Requests to stop: who is asked to write a checkpoint and end, why, and whether it did.

Knows the table; it does not know who asks (budgets, people) or how work is stopped. What runs polls
`asked` and calls `honour` once what it did is durable.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from rayplat.core.database import open_tables, reading, writing
from rayplat.core.settings import Settings

_LOCK = 0x73746F70
_METADATA = sa.MetaData()
_REQUESTS = sa.Table(
    "stop_requests",
    _METADATA,
    sa.Column("owner_kind", sa.String(16), primary_key=True),
    sa.Column("owner", sa.String(255), primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),  # seconds since 1970, as all times here
    sa.Column("honoured_at", sa.Float, nullable=True),
    sa.Column("forced_at", sa.Float, nullable=True),
)


@dataclass(frozen=True, slots=True)
class StopRequest:
    """One owner is asked to stop.

    Attributes:
        honoured_at: when it said that it has ended, or was seen to be gone.
        forced_at: when it was first stopped from outside, after the grace period.
    """

    owner_kind: str
    owner: str
    reason: str
    at: datetime
    honoured_at: datetime | None = None
    forced_at: datetime | None = None


class StopRequests:
    """The requests of one platform. Safe for many processes; the database is opened at first use.

    Args:
        settings: `database` holds them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self.settings.database, _METADATA, _LOCK)

    def close(self) -> None:
        """Give the connections back; the next use opens them again."""
        if "_engine" in self.__dict__:
            self.__dict__.pop("_engine").dispose()

    def ask(self, owner_kind: str, owner: str, reason: str, at: datetime) -> bool:
        """Ask an owner to stop; False if it is asked already and has not stopped yet."""
        with writing(self._engine, _LOCK) as connection:
            row = connection.execute(sa.select(_REQUESTS).where(_is(owner_kind, owner))).first()
            if row is not None and row.honoured_at is None:
                return False
            values = {"reason": reason, "at": at.timestamp(), "honoured_at": None, "forced_at": None}
            if row is None:
                keys = {"owner_kind": owner_kind, "owner": owner}
                connection.execute(sa.insert(_REQUESTS), [{**keys, **values}])
            else:
                # It was started anew after it had stopped, and is asked anew.
                connection.execute(sa.update(_REQUESTS).where(_is(owner_kind, owner)).values(**values))
            return True

    def asked(self, owner_kind: str, owner: str) -> StopRequest | None:
        """The open request to an owner; what a training polls."""
        query = sa.select(_REQUESTS).where(_is(owner_kind, owner), _REQUESTS.c.honoured_at.is_(None))
        return next(iter(self._read(query)), None)

    def open(self) -> list[StopRequest]:
        """Every request that nobody has honoured yet, oldest first."""
        return self._read(sa.select(_REQUESTS).where(_REQUESTS.c.honoured_at.is_(None)))

    def all(self) -> list[StopRequest]:
        """Every request, oldest first."""
        return self._read(sa.select(_REQUESTS))

    def honour(self, owner_kind: str, owner: str, at: datetime | None = None) -> None:
        """Say that an owner has stopped; the first word counts."""
        self._note(owner_kind, owner, "honoured_at", at)

    def force(self, owner_kind: str, owner: str, at: datetime | None = None) -> None:
        """Say that an owner was stopped from outside."""
        self._note(owner_kind, owner, "forced_at", at)

    def withdraw(self, owners: Iterable[tuple[str, str]]) -> None:
        """Take back requests that nobody has honoured."""
        with writing(self._engine, _LOCK) as connection:
            for kind, owner in owners:
                connection.execute(
                    sa.delete(_REQUESTS).where(_is(kind, owner), _REQUESTS.c.honoured_at.is_(None))
                )

    def _note(self, kind: str, owner: str, column: str, at: datetime | None) -> None:
        moment = (at or datetime.now(UTC)).timestamp()
        with writing(self._engine, _LOCK) as connection:
            connection.execute(
                sa.update(_REQUESTS)
                .where(_is(kind, owner), _REQUESTS.c[column].is_(None))
                .values({column: moment})
            )

    def _read(self, query: sa.Select[Any]) -> list[StopRequest]:
        with reading(self._engine) as connection:
            return [_request(row) for row in connection.execute(query.order_by(_REQUESTS.c.at))]


def _is(kind: str, owner: str) -> sa.ColumnElement[bool]:
    return sa.and_(_REQUESTS.c.owner_kind == kind, _REQUESTS.c.owner == owner)


def _request(row: Any) -> StopRequest:
    return StopRequest(
        row.owner_kind, row.owner, row.reason, _time(row.at), _maybe(row.honoured_at), _maybe(row.forced_at)
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _maybe(seconds: float | None) -> datetime | None:
    return None if seconds is None else _time(seconds)

"""API tokens as rows of the database: made, listed, rotated, revoked.

Knows the table, and that every change raises a counter by which replicas notice it; it does not know how a
request is admitted. A secret is returned once and never kept.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import orjson
import sqlalchemy as sa

from rayplat.core.database import open_tables, reading, writing
from rayplat.core.errors import BugError, NotFoundError, UserError
from rayplat.core.events import EventBus, TokenCreated, TokenRevoked
from rayplat.core.settings import Settings
from rayplat.serve.admission.decision import Priority
from rayplat.serve.admission.grant import Grant, check_caller, check_scopes, new_secret, parts
from rayplat.serve.admission.limits import Limits

_LOCK = 0x7261_7911
_METADATA = sa.MetaData()
_TOKENS = sa.Table(
    "serve_tokens",
    _METADATA,
    sa.Column("token_id", sa.String(12), primary_key=True),
    sa.Column("caller", sa.Text, nullable=False, index=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("limits", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Text, nullable=False),
    sa.Column("revoked_at", sa.Text),
)
_CHANGES = sa.Table(
    "serve_token_changes",
    _METADATA,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made: the only moment in which `token` can be read."""

    token: str
    grant: Grant

    def __repr__(self) -> str:
        return f"NewToken({self.grant.token_id})"  # a secret does not belong into a log


class TokenStore:
    """The tokens of one platform. Safe for many processes at once.

    Args:
        settings: names the database, and the user who acts.
        bus: hears of every change.
    """

    def __init__(self, settings: Settings, bus: EventBus | None = None) -> None:
        self._settings = settings
        self._bus = bus or EventBus()

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self._settings.database, _METADATA, _LOCK)

    def create(
        self,
        caller: str,
        scopes: tuple[str, ...],
        lifetime: timedelta,
        *,
        priority: Priority = Priority.NORMAL,
        limits: Limits | None = None,
        now: datetime | None = None,
    ) -> NewToken:
        """Make a token. Emits TokenCreated.

        Raises:
            UserError: a scope, the name or the lifetime is wrong.
        """
        if lifetime <= timedelta(0):
            raise UserError(f"a lifetime of {lifetime} has ended already", "give a time over 0")
        begin = now or datetime.now(UTC)
        rights = (check_caller(caller), check_scopes(scopes), priority, limits or Limits())
        made = _made(rights, begin, begin + lifetime)
        with writing(self._engine, _LOCK) as connection:
            connection.execute(_TOKENS.insert(), [_row(made.grant)])
            _changed(connection)
        self._created(made.grant)
        return made

    def rotate(
        self, token_id: str, lifetime: timedelta, overlap: timedelta, *, now: datetime | None = None
    ) -> NewToken:
        """Make a token with the rights of another, which ends when the overlap has passed.

        Raises:
            NotFoundError: there is no such token.
            UserError: it is not valid any more, or a time is wrong.
        """
        at = now or datetime.now(UTC)
        if lifetime <= timedelta(0) or overlap < timedelta(0):
            raise UserError("a lifetime or an overlap has ended already", "give times over 0")
        with writing(self._engine, _LOCK) as connection:
            old = _grant(_one(connection, token_id))
            if old.standing(at) != "valid":
                raise UserError(f"the token {token_id} is {old.standing(at)}", "create a new one")
            made = _made((old.caller, old.scopes, old.priority, old.limits), at, at + lifetime)
            until = min(old.expires_at, at + overlap).isoformat()
            connection.execute(
                _TOKENS.update().where(_TOKENS.c.token_id == token_id).values(expires_at=until)
            )
            connection.execute(_TOKENS.insert(), [_row(made.grant)])
            _changed(connection)
        self._created(made.grant)
        return made

    def revoke(self, token_id: str, *, now: datetime | None = None) -> Grant:
        """End a token for ever; replicas refuse it within a second. Emits TokenRevoked, once.

        Raises:
            NotFoundError: there is no such token.
        """
        at = now or datetime.now(UTC)
        with writing(self._engine, _LOCK) as connection:
            found = _grant(_one(connection, token_id))
            if found.revoked_at is not None:
                return found
            chosen = _TOKENS.update().where(_TOKENS.c.token_id == token_id)
            connection.execute(chosen.values(revoked_at=at.isoformat()))
            _changed(connection)
            found = _grant(_one(connection, token_id))
        self._bus.emit(TokenRevoked(token_id=token_id, caller=found.caller, actor=self._settings.user))
        return found

    def grants(self) -> tuple[int, list[Grant]]:
        """The counter of changes, and all tokens as of it, oldest first."""
        with reading(self._engine) as connection:
            version = _version(connection)
            rows = connection.execute(_TOKENS.select().order_by(_TOKENS.c.created_at, _TOKENS.c.token_id))
            return version, [_grant(row) for row in rows]

    def version(self) -> int:
        """The counter of changes: cheap to ask for."""
        with reading(self._engine) as connection:
            return _version(connection)

    def close(self) -> None:
        """Close the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self.__dict__["_engine"]

    def _created(self, grant: Grant) -> None:
        self._bus.emit(
            TokenCreated(
                token_id=grant.token_id,
                caller=grant.caller,
                scopes=grant.scopes,
                expires_at=grant.expires_at,
                actor=self._settings.user,
            )
        )


def _made(like: tuple[str, tuple[str, ...], Priority, Limits], begin: datetime, end: datetime) -> NewToken:
    caller, scopes, priority, limits = like
    token_id, token = new_secret()
    found = parts(token)
    if found is None:
        raise BugError("a token was made that has not the form of one")
    return NewToken(token, Grant(token_id, caller, found[1], scopes, begin, end, priority, limits))


def _version(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(_CHANGES.c.version)).scalar() or 0)


def _changed(connection: sa.Connection) -> None:
    raised = connection.execute(_CHANGES.update().values(version=_CHANGES.c.version + 1))
    if raised.rowcount == 0:
        connection.execute(_CHANGES.insert(), [{"name": "tokens", "version": 1}])


def _one(connection: sa.Connection, token_id: str) -> Any:
    row = connection.execute(_TOKENS.select().where(_TOKENS.c.token_id == token_id)).first()
    if row is None:
        raise NotFoundError(
            f"there is no token {token_id[:40]!r}", "`rayplat tokens list` shows what there is"
        )
    return row


def _row(grant: Grant) -> dict[str, Any]:
    limits = {"rate": grant.limits.rate, "burst": grant.limits.burst, "daily": grant.limits.daily}
    return {
        "token_id": grant.token_id,
        "caller": grant.caller,
        "digest": grant.digest,
        "scopes": orjson.dumps(grant.scopes).decode(),
        "priority": int(grant.priority),
        "limits": orjson.dumps(limits).decode(),
        "created_at": grant.created_at.isoformat(),
        "expires_at": grant.expires_at.isoformat(),
        "revoked_at": None,
    }


def _grant(row: Any) -> Grant:
    return Grant(
        token_id=row.token_id,
        caller=row.caller,
        digest=row.digest,
        scopes=tuple(orjson.loads(row.scopes)),
        created_at=datetime.fromisoformat(row.created_at),
        expires_at=datetime.fromisoformat(row.expires_at),
        priority=Priority(row.priority),
        limits=Limits(**orjson.loads(row.limits)),
        revoked_at=datetime.fromisoformat(row.revoked_at) if row.revoked_at else None,
    )

"""Idempotency keys: a request that is sent again gets the answer that it got before, whoever answers.

Knows which key of a caller stands for which request, and what was answered; it does not know requests. A key
is claimed before the work and settled after the prediction is durable. Both are transactions of the database,
and only requests that carry a key pay for them.

Where a replica dies between the two, the claim lapses after a while: the request is answered anew then, under
new prediction ids, for nobody was told of the old ones. (The semantics of the header are those of
draft-ietf-httpapi-idempotency-key-header-07: another request under a used key is an error of the caller.)
"""

import hashlib
import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from rayplat.core.database import ensure_tables, open_database, writing
from rayplat.core.errors import UserError
from rayplat.core.settings import Settings

_LOCK = 0x7261_7913
_METADATA = sa.MetaData()
_KEYS = sa.Table(
    "serve_idempotency",
    _METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("claim", sa.String(16), nullable=False),
    sa.Column("answer", sa.LargeBinary),
    sa.Column("until", sa.Double, nullable=False, index=True),
)
KEPT_S = 86_400.0
LAPSES_S = 60.0
LONGEST_KEY = 255
KEY_FORM = f"Idempotency-Key has 1 to {LONGEST_KEY} ASCII characters"


@dataclass(frozen=True, slots=True)
class Claimed:
    """The work is to be done, and `settle` to be called with this."""

    name: str
    claim: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer that was given."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class Busy:
    """Another replica is at work on it: 409, to be asked again."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key was used for another request: 422."""


def is_key(value: bytes) -> bool:
    """Whether the value of a header `Idempotency-Key` has the form of a key, see `KEY_FORM`."""
    return 0 < len(value) <= LONGEST_KEY and value.isascii()


class IdempotencyKeys:
    """The keys of one platform. Safe for many processes at once.

    Args:
        settings: names the database.
        kept_s: how long an answer is kept.
        lapses_s: how long a claim holds.
    """

    def __init__(self, settings: Settings, *, kept_s: float = KEPT_S, lapses_s: float = LAPSES_S) -> None:
        self._settings = settings
        self._kept_s = kept_s
        self._lapses_s = lapses_s

    @cached_property
    def _engine(self) -> sa.Engine:
        engine = open_database(self._settings.database)
        ensure_tables(engine, _METADATA, _LOCK)
        return engine

    def claim(
        self, caller: str, endpoint: str, key: str, request: bytes, now: float
    ) -> Claimed | Kept | Busy | Mismatch:
        """Begin a request under a key.

        Args:
            request: the body, as it was sent.
            now: s since 1970.

        Raises:
            UserError: the key is empty or too long.
            UnavailableError: the database does not answer.
        """
        if not 0 < len(key) <= LONGEST_KEY:
            raise UserError("an Idempotency-Key has 1 to 255 characters", "send a UUID")
        name, digest = _digest(caller, endpoint, key), hashlib.sha256(request).hexdigest()
        with writing(self._engine, _LOCK) as connection:
            row = connection.execute(_KEYS.select().where(_KEYS.c.name == name)).first()
            if row is not None and row.until > now:
                return _found(row, digest)
            connection.execute(_KEYS.delete().where(_KEYS.c.until <= now))
            claim = secrets.token_hex(8)
            values = {"name": name, "request": digest, "claim": claim, "until": now + self._lapses_s}
            connection.execute(_KEYS.insert(), [values])
            return Claimed(name, claim)

    def settle(self, claimed: Claimed, answer: bytes, now: float) -> bytes:
        """Keep an answer whose predictions are durable; what is to be sent.

        It is another one's answer where the claim had lapsed and somebody else was faster.
        """
        with writing(self._engine, _LOCK) as connection:
            row = connection.execute(_KEYS.select().where(_KEYS.c.name == claimed.name)).first()
            if row is not None and row.answer is not None and row.claim != claimed.claim:
                return bytes(row.answer)
            if row is not None and row.claim == claimed.claim:
                chosen = _KEYS.update().where(_KEYS.c.name == claimed.name)
                connection.execute(chosen.values(answer=answer, until=now + self._kept_s))
        return answer

    def give_up(self, claimed: Claimed) -> None:
        """Let the request be tried again: it was not answered."""
        with writing(self._engine, _LOCK) as connection:
            mine = (
                (_KEYS.c.name == claimed.name) & (_KEYS.c.claim == claimed.claim) & _KEYS.c.answer.is_(None)
            )
            connection.execute(_KEYS.delete().where(mine))

    def close(self) -> None:
        """Close the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self.__dict__["_engine"]


def _found(row: Any, digest: str) -> Kept | Busy | Mismatch:
    if row.request != digest:
        return Mismatch()
    return Busy() if row.answer is None else Kept(bytes(row.answer))


def _digest(*parts: str) -> str:
    """One name for a caller's key: the lengths keep `a, bc` apart from `ab, c`."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()

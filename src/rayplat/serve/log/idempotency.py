"""Idempotency keys: a request that is sent again gets the answer that it got before, whoever answers.

Knows which key of a caller stands for which request, and what was answered; it does not know requests. A key
is claimed before the work and settled after the prediction is durable. Both are transactions of the database,
and only requests that carry a key pay for them.

Where a replica dies between the two, the request is answered anew, under new prediction ids, for nobody was
told of the old ones: by a replica of the same machine at once, for the dead one's lock is free; by others
when its claim is not renewed any more. A replica that was only slow may settle after that: who settles first
has given the answer, and the other one tells the same. (The semantics of the header are those of
draft-ietf-httpapi-idempotency-key-header-07: another request under a used key is an error of the caller.)
"""

import contextlib
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from rayplat.core.database import open_tables, writing
from rayplat.core.errors import RayplatError, UserError
from rayplat.core.settings import Settings
from rayplat.serve.log.alive import Alive

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
LAPSES_S = 3.0
RENEWED_S = 1.0
LONGEST_KEY = 255
KEY_FORM = f"Idempotency-Key has 1 to {LONGEST_KEY} ASCII characters"


@dataclass(frozen=True, slots=True)
class Claimed:
    """The work is to be done, and `settle` to be called with this."""

    name: str
    claim: str
    request: str = ""


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
        lapses_s: how long a claim holds that is not renewed.
        renewed_s: how often the claims of this process are renewed; None: never.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        kept_s: float = KEPT_S,
        lapses_s: float = LAPSES_S,
        renewed_s: float | None = RENEWED_S,
    ) -> None:
        self._settings = settings
        self._kept_s = kept_s
        self._lapses_s = lapses_s
        self._renewed_s = renewed_s
        self._mine: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None

    @cached_property
    def _alive(self) -> Alive:
        return Alive(self._settings.home / "idempotency")

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self._settings.database, _METADATA, _LOCK)

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
            if row is not None and row.until > now and not self._left(row):
                return _found(row, digest)
            over = (_KEYS.c.until <= now) | (_KEYS.c.name == name)
            connection.execute(_KEYS.delete().where(over))
            # Whose claim it is can be read from it, so that others of the machine see when he is dead.
            claim = self._alive.name + secrets.token_hex(4)
            values = {"name": name, "request": digest, "claim": claim, "until": now + self._lapses_s}
            connection.execute(_KEYS.insert(), [values])
        self._begun(name, claim)
        return Claimed(name, claim, digest)

    def settle(self, claimed: Claimed, answer: bytes, now: float) -> bytes:
        """Keep an answer whose predictions are durable; what is to be sent.

        It is another one's answer where the claim had lapsed and somebody else was faster.
        """
        with writing(self._engine, _LOCK) as connection:
            row = connection.execute(_KEYS.select().where(_KEYS.c.name == claimed.name)).first()
            if row is not None and row.answer is not None and row.claim != claimed.claim:
                if row.request == claimed.request:
                    answer = bytes(row.answer)
            elif row is None or row.request == claimed.request:
                values = {"claim": claimed.claim, "answer": answer, "until": now + self._kept_s}
                told = {"name": claimed.name, "request": claimed.request, **values}
                connection.execute(_KEYS.delete().where(_KEYS.c.name == claimed.name))
                connection.execute(_KEYS.insert(), [told])
        self._ended(claimed)
        return answer

    def give_up(self, claimed: Claimed) -> None:
        """Let the request be tried again: it was not answered."""
        with writing(self._engine, _LOCK) as connection:
            mine = (
                (_KEYS.c.name == claimed.name) & (_KEYS.c.claim == claimed.claim) & _KEYS.c.answer.is_(None)
            )
            connection.execute(_KEYS.delete().where(mine))
        self._ended(claimed)

    def close(self) -> None:
        """Renew no claim any more, and close the connections."""
        self._stop.set()
        if self._renewer is not None:
            self._renewer.join()
        if "_alive" in self.__dict__:
            self._alive.close()
            del self.__dict__["_alive"]
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self.__dict__["_engine"]

    def renew(self, now: float) -> None:
        """Hold the claims of this process for longer.

        Raises:
            UnavailableError: the database does not answer.
        """
        with self._lock:
            mine = list(self._mine.values())
        if mine:
            with writing(self._engine, _LOCK) as connection:
                held = _KEYS.c.claim.in_(mine) & _KEYS.c.answer.is_(None)
                connection.execute(_KEYS.update().where(held).values(until=now + self._lapses_s))

    def _left(self, row: Any) -> bool:
        """Whether a claim's owner is known to have died before it answered."""
        return row.answer is None and self._alive.is_dead(row.claim[:8])

    def _begun(self, name: str, claim: str) -> None:
        with self._lock:
            self._mine[name] = claim
            if self._renewed_s is not None and self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, name="idempotency", daemon=True)
                self._renewer.start()

    def _ended(self, claimed: Claimed) -> None:
        with self._lock:
            if self._mine.get(claimed.name) == claimed.claim:
                del self._mine[claimed.name]

    def _renew(self) -> None:
        while not self._stop.wait(self._renewed_s):
            # A database that is away for a moment: the claims hold as long as they hold.
            with contextlib.suppress(RayplatError):
                self.renew(time.time())


def _found(row: Any, digest: str) -> Kept | Busy | Mismatch:
    if row.request != digest:
        return Mismatch()
    return Busy() if row.answer is None else Kept(bytes(row.answer))


def _digest(*parts: str) -> str:
    """One name for a caller's key: the lengths keep `a, bc` apart from `ab, c`."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()

"""The audit log: who did what, in a chain of hashes that cannot be edited unseen.

Knows how entries are appended, read and checked; it does not know what an action means.

Each entry's SHA-256 is taken over the previous entry's hash and the canonical JSON of its own fields. An
edit, an insertion, a deletion in the middle and a new order break the chain at the first entry that they
touch. What the chain alone cannot show: that its *tail* was cut off, or that somebody who may write to
the database made the whole chain anew. Against both, note `head()` where the database's owner cannot
write (a ticket, a signed mail, another organisation), and give it to `verify` later.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from rayplat.core.database import open_tables, reading, writing
from rayplat.core.errors import IntegrityError, UserError
from rayplat.core.events import Event
from rayplat.core.settings import Settings
from rayplat.governance.entry import GENESIS, Entry, Head, canonical, chained_hash, described

_LOCK = 0x7261_7902
_PAGE = 1000
_METADATA = sa.MetaData()
_LOG = sa.Table(
    "audit_log",
    _METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False, index=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)


class AuditLog:
    """The audit log of one platform. Safe for many processes and threads at once.

    Args:
        settings: names the database, and the user who acts where an event names nobody.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self.settings.database, _METADATA, _LOCK)

    def append(
        self, actor: str, action: str, subject: str, details: Mapping[str, Any], at: datetime | None = None
    ) -> Entry:
        """Add an entry at the end of the chain, in one transaction; durable when this returns.

        Args:
            details: JSON values only.
            at: when it was done (with a zone); now, where not given.

        Raises:
            UserError: the details are not JSON values.
            UnavailableError: the database did not take it; nothing was written.
        """
        body = canonical(dict(details))
        stamp = (at or datetime.now(UTC)).astimezone(UTC).isoformat()
        with writing(self._engine, _LOCK) as connection:
            last = connection.execute(_LOG.select().order_by(_LOG.c.seq.desc()).limit(1)).first()
            seq, previous = (1, GENESIS) if last is None else (last.seq + 1, last.hash)
            own = chained_hash(
                previous, seq, stamp, actor=actor, action=action, subject=subject, details=body
            )
            row = {"seq": seq, "at": stamp, "actor": actor, "action": action, "subject": subject}
            connection.execute(_LOG.insert(), [{**row, "details": body, "previous": previous, "hash": own}])
        return Entry(
            seq, datetime.fromisoformat(stamp), actor, action, subject, json.loads(body), previous, own
        )

    def record(self, event: Event) -> None:
        """Write an event of the platform down: a listener for the event bus.

        The actor is the event's own; where it names none, the user of the settings. Events that are not in
        `rayplat.core.events` are left out.
        """
        told = described(event)
        if told is None:
            return
        action, subject, details = told
        actor = getattr(event, "actor", "") or self.settings.user
        self.append(actor, action, subject, details, event.at)

    def entries(self, action: str | None = None, subject: str | None = None) -> list[Entry]:
        """The entries in order, all or those of one action and/or subject. The chain is not checked here."""
        query = _LOG.select().order_by(_LOG.c.seq)
        if action is not None:
            query = query.where(_LOG.c.action == action)
        if subject is not None:
            query = query.where(_LOG.c.subject == subject)
        with reading(self._engine) as connection:
            return [_entry(row) for row in connection.execute(query)]

    def head(self) -> Head:
        """The last entry's place and hash; `Head(0, GENESIS)` while the log is empty."""
        with reading(self._engine) as connection:
            last = connection.execute(_LOG.select().order_by(_LOG.c.seq.desc()).limit(1)).first()
        return Head(0, GENESIS) if last is None else Head(last.seq, last.hash)

    def verify(self, noted: Head | None = None) -> int:
        """Walk the whole chain; how many entries are good.

        Args:
            noted: an earlier `head()` that was kept elsewhere; without it a cut tail cannot be seen.

        Raises:
            IntegrityError: the chain is broken; names the first bad entry.
        """
        seq, previous = 0, GENESIS
        for row in self._rows():
            seq += 1
            _check(row, seq, previous)
            previous = row.hash
            if noted is not None and seq == noted.seq and row.hash != noted.hash:
                raise _broken(seq, f"its hash is {row.hash}, but {noted.hash} was noted elsewhere")
        if noted is not None and seq < noted.seq:
            raise _broken(seq + 1, f"it is missing: the log had {noted.seq} entries when its head was noted")
        return seq

    def close(self) -> None:
        """Close the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self.__dict__["_engine"]

    def _rows(self) -> Iterator[Any]:
        """All rows by seq, page by page, in one consistent state."""
        with reading(self._engine) as connection:
            query = _LOG.select().order_by(_LOG.c.seq).execution_options(yield_per=_PAGE)
            yield from connection.execute(query)


def _check(row: Any, seq: int, previous: str) -> None:
    if row.seq != seq:
        raise _broken(seq, f"it is missing: the next entry is {row.seq}")
    if row.previous != previous:
        raise _broken(seq, f"it follows {row.previous}, but the entry before has the hash {previous}")
    try:
        own = chained_hash(
            row.previous,
            row.seq,
            row.at,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            details=row.details,
        )
    except UserError as error:  # SQLite keeps a value of any type in a text column
        raise _broken(seq, f"it holds what no entry can hold: {error.what}") from error
    if own != row.hash:
        raise _broken(seq, f"its content has the hash {own}, but {row.hash} is stored with it")


def _broken(seq: int, why: str) -> IntegrityError:
    return IntegrityError(
        f"the audit log is broken at entry {seq}: {why}",
        "somebody edited the database: compare it with a backup, and find out who has its password",
    )


def _entry(row: Any) -> Entry:
    return Entry(
        seq=row.seq,
        at=datetime.fromisoformat(row.at),
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        details=json.loads(row.details),
        previous=row.previous,
        hash=row.hash,
    )

"""Who keeps copies for others: rows of the database that machines renew while they live.

Knows addresses, secrets and when somebody was last seen; it does not know what a copy is.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa

from rayplat.core.database import open_tables, reading, writing
from rayplat.core.settings import Settings

_LOCK = 0x7261_7914
_METADATA = sa.MetaData()
_PEERS = sa.Table(
    "serve_log_peers",
    _METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("secret", sa.String(64), nullable=False),
    sa.Column("seen_at", sa.Double, nullable=False),
)
FRESH_S = 10.0
"""Who was not seen for so long is not asked."""

_FORGOTTEN_S = 3600.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A process that keeps copies.

    Attributes:
        node: the machine that it runs on.
        secret: that a greeting must have.
    """

    name: str
    node: str
    host: str
    port: int
    secret: str

    def __repr__(self) -> str:
        return f"Peer({self.node}, {self.host}:{self.port})"  # a secret does not belong into a log


class Peers:
    """The peers of one platform. Safe for many processes at once.

    Args:
        settings: names the database.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self._settings.database, _METADATA, _LOCK)

    def tell(self, peer: Peer, now: float) -> None:
        """Be known, or be known still; `now`: s since 1970.

        Raises:
            UnavailableError: the database does not answer.
        """
        values = {"node": peer.node, "host": peer.host, "port": peer.port, "secret": peer.secret}
        with writing(self._engine, _LOCK) as connection:
            connection.execute(_PEERS.delete().where(_PEERS.c.seen_at < now - _FORGOTTEN_S))
            connection.execute(_PEERS.delete().where(_PEERS.c.name == peer.name))
            connection.execute(_PEERS.insert(), [{"name": peer.name, **values, "seen_at": now}])

    def withdraw(self, name: str) -> None:
        """Be known no more.

        Raises:
            UnavailableError: the database does not answer.
        """
        with writing(self._engine, _LOCK) as connection:
            connection.execute(_PEERS.delete().where(_PEERS.c.name == name))

    def beside(self, node: str, key: str, now: float) -> Sequence[Peer]:
        """Who may keep copies of a machine's slots: others than itself, in an order that `key` decides.

        Raises:
            UnavailableError: the database does not answer.
        """
        wanted = (_PEERS.c.node != node) & (_PEERS.c.seen_at > now - FRESH_S)
        with reading(self._engine) as connection:
            rows = connection.execute(_PEERS.select().where(wanted)).all()
        found = [Peer(row.name, row.node, row.host, row.port, row.secret) for row in rows]
        # Each owner has an order of its own, so that the copies spread over the machines.
        return sorted(
            found, key=lambda peer: hashlib.sha256(f"{peer.node}/{peer.name}/{key}".encode()).digest()
        )

    def close(self) -> None:
        """Close the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self.__dict__["_engine"]

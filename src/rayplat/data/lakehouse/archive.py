"""The archive: snapshots that the metadata need not hold any more, kept in the database.

Knows snapshots as the metadata held them; it does not know when one is archived or expired. A table
that is committed to several times a second would otherwise grow metadata that every commit rewrites. An
archived snapshot can be read like any other until its files are expired; its summary stays for ever.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from rayplat.core.database import open_tables, reading, writing
from rayplat.data.lakehouse.head import SnapshotRecord

_LOCK = 0x6C616B65
_TABLES = sa.MetaData()
_SNAPSHOTS = sa.Table(
    "lake_snapshots",
    _TABLES,
    sa.Column("table_uuid", sa.String(36), primary_key=True),
    sa.Column("snapshot_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence_number", sa.BigInteger, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
)


class Archive:
    """Archived snapshots of all tables of a platform. The database is opened at first use.

    Args:
        database: `sqlite:///` or `postgresql://`.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._opened: sa.Engine | None = None

    @property
    def _engine(self) -> sa.Engine:
        if self._opened is None:
            self._opened = open_tables(self._database, _TABLES, _LOCK)
        return self._opened

    def close(self) -> None:
        """Give the connections back."""
        if self._opened is not None:
            self._opened.dispose()
            self._opened = None

    def remember(self, table_uuid: str, snapshots: Sequence[SnapshotRecord]) -> None:
        """Keep snapshots; those that are kept already stay as they are. Durable when it returns.

        Raises:
            UnavailableError: the database does not take them.
        """
        ids = [int(s["snapshot-id"]) for s in snapshots]
        with writing(self._engine, _LOCK) as connection:
            have = set(
                connection.execute(_where(sa.select(_SNAPSHOTS.c.snapshot_id), table_uuid, ids)).scalars()
            )
            rows = [_row(table_uuid, s) for s in snapshots if int(s["snapshot-id"]) not in have]
            if rows:
                connection.execute(sa.insert(_SNAPSHOTS), rows)

    def recall(self, table_uuid: str, *, live: bool | None = None) -> list[SnapshotRecord]:
        """The archived snapshots of a table, oldest first; with `live`, only those that can (not) be read.

        Each has a further entry `live`.
        """
        query = sa.select(_SNAPSHOTS).where(_SNAPSHOTS.c.table_uuid == table_uuid)
        if live is not None:
            query = query.where(_SNAPSHOTS.c.live.is_(live))
        return self._read(query.order_by(_SNAPSHOTS.c.sequence_number))

    def find(self, table_uuid: str, snapshot_id: int) -> SnapshotRecord | None:
        """One archived snapshot, with a further entry `live`."""
        found = self._read(_where(sa.select(_SNAPSHOTS), table_uuid, [snapshot_id]))
        return found[0] if found else None

    def expire(self, table_uuid: str, snapshot_ids: Collection[int]) -> None:
        """Note that snapshots cannot be read any more: before their files are deleted."""
        with writing(self._engine, _LOCK) as connection:
            connection.execute(_where(sa.update(_SNAPSHOTS).values(live=False), table_uuid, snapshot_ids))

    def _read(self, query: Any) -> list[SnapshotRecord]:
        with reading(self._engine) as connection:
            return [{**json.loads(row.record), "live": row.live} for row in connection.execute(query)]


def _where(query: Any, table_uuid: str, snapshot_ids: Collection[int]) -> Any:
    return query.where(
        _SNAPSHOTS.c.table_uuid == table_uuid, _SNAPSHOTS.c.snapshot_id.in_(list(snapshot_ids))
    )


def _row(table_uuid: str, snapshot: SnapshotRecord) -> dict[str, Any]:
    return {
        "table_uuid": table_uuid,
        "snapshot_id": int(snapshot["snapshot-id"]),
        "sequence_number": int(snapshot["sequence-number"]),
        "record": json.dumps(snapshot),
        "live": True,
    }

"""Pins: snapshots that somebody needs, which expiry leaves alone.

Knows who holds which snapshot and until when, and which snapshots are sentenced; it does not know what
is in one. Holding and sentencing exclude each other in one transaction: a snapshot that was held before
it was sentenced is not expired, and one that is sentenced cannot be held any more.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from functools import cached_property

import sqlalchemy as sa

from rayplat.core.database import open_tables, reading, writing
from rayplat.core.errors import ConflictError, UserError
from rayplat.core.settings import Settings

_LOCK = 0x6C70_696E
_METADATA = sa.MetaData()
_PINS = sa.Table(
    "lake_pins",
    _METADATA,
    sa.Column("table_name", sa.String(255), primary_key=True),
    sa.Column("snapshot_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("holder", sa.String(255), primary_key=True),
    sa.Column("until", sa.Float, nullable=True),  # seconds since 1970; none: until it is released
)
_SENTENCED = sa.Table(
    "lake_sentenced",
    _METADATA,
    sa.Column("table_name", sa.String(255), primary_key=True),
    sa.Column("snapshot_id", sa.BigInteger, primary_key=True, autoincrement=False),
)


_TRAINING = timedelta(days=7)


class Pins:
    """The pins of one platform. Safe for many processes; the database is opened at first use.

    Args:
        settings: `database` holds them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __reduce__(self) -> tuple[type["Pins"], tuple[Settings]]:
        return type(self), (self.settings,)

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self.settings.database, _METADATA, _LOCK)

    def close(self) -> None:
        """Give the connections back; the next use opens them again."""
        if "_engine" in self.__dict__:
            self.__dict__.pop("_engine").dispose()

    def hold(self, table: str, snapshot_id: int, holder: str, until: datetime | None = None) -> None:
        """Keep a snapshot from being expired. Holding it again moves `until`.

        Whoever holds a snapshot looks for it *afterwards*: one that was expired long ago can still be held.

        Args:
            holder: who needs it, such as a run's id; `release` takes it.
            until: when the pin lapses by itself (with a zone); None: never.

        Raises:
            ConflictError: the snapshot is being expired.
            UserError: `until` names no zone.
        """
        if until is not None and until.tzinfo is None:
            raise UserError(f"until {until.isoformat()} names no zone", "give a time in UTC")
        own = sa.and_(_of(_PINS, table, snapshot_id), _PINS.c.holder == holder)
        row = {
            "table_name": table,
            "snapshot_id": snapshot_id,
            "holder": holder,
            "until": until.timestamp() if until else None,
        }
        with writing(self._engine, _LOCK) as connection:
            if connection.execute(sa.select(_SENTENCED).where(_of(_SENTENCED, table, snapshot_id))).first():
                raise ConflictError(
                    f"snapshot {snapshot_id} of {table} is being expired", "take a newer snapshot"
                )
            connection.execute(sa.delete(_PINS).where(own))
            connection.execute(sa.insert(_PINS), [row])

    def for_training(self, model: str) -> Callable[[str, int], None]:
        """Holds what a training of a model reads for a week; then the registered version's manifest does."""
        until = datetime.now(UTC) + _TRAINING
        return lambda table, snapshot_id: self.hold(table, snapshot_id, f"training:{model}", until)

    def release(self, holder: str) -> int:
        """Take away all pins of a holder.

        Returns:
            How many there were.
        """
        with writing(self._engine, _LOCK) as connection:
            return connection.execute(sa.delete(_PINS).where(_PINS.c.holder == holder)).rowcount

    def held(self, table: str, at: datetime | None = None) -> set[int]:
        """The snapshots of a table with a pin that has not lapsed at `at` (now if None)."""
        with reading(self._engine) as connection:
            return set(connection.execute(_held(table, at)).scalars())

    def sentence(self, table: str, snapshot_ids: Collection[int], at: datetime | None = None) -> set[int]:
        """Announce that snapshots are going to be expired: from now on they cannot be held.

        Returns:
            Those that are sentenced; the others are held.
        """
        with writing(self._engine, _LOCK) as connection:
            # A pin that has lapsed says nothing any more.
            now = (at or datetime.now(UTC)).timestamp()
            connection.execute(sa.delete(_PINS).where(_PINS.c.table_name == table, _PINS.c.until <= now))
            free = set(snapshot_ids) - set(connection.execute(_held(table, at)).scalars())
            known = sa.select(_SENTENCED.c.snapshot_id).where(_SENTENCED.c.table_name == table)
            new = free - set(connection.execute(known).scalars())
            if new:
                rows = [{"table_name": table, "snapshot_id": one} for one in sorted(new)]
                connection.execute(sa.insert(_SENTENCED), rows)
        return free

    def carried_out(self, table: str, snapshot_ids: Collection[int]) -> None:
        """Forget sentences: the snapshots cannot be read any more."""
        with writing(self._engine, _LOCK) as connection:
            for one in snapshot_ids:
                connection.execute(sa.delete(_SENTENCED).where(_of(_SENTENCED, table, one)))


def _of(rows: sa.Table, table: str, snapshot_id: int) -> sa.ColumnElement[bool]:
    return sa.and_(rows.c.table_name == table, rows.c.snapshot_id == snapshot_id)


def _held(table: str, at: datetime | None) -> sa.Select[int]:
    now = (at or datetime.now(UTC)).timestamp()
    return sa.select(_PINS.c.snapshot_id).where(
        _PINS.c.table_name == table, sa.or_(_PINS.c.until.is_(None), _PINS.c.until > now)
    )

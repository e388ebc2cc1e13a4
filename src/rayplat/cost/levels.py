"""How far each budget had been spent when it was last looked at, so that each step is told once.

Knows the table; it does not know what follows from a step.
"""

from datetime import datetime
from functools import cached_property

import sqlalchemy as sa

from rayplat.core.database import open_tables, writing
from rayplat.core.settings import Settings
from rayplat.cost.budget import Level

_LOCK = 0x6C65766C
_METADATA = sa.MetaData()
_LEVELS = sa.Table(
    "cost_levels",
    _METADATA,
    sa.Column("budget", sa.String(512), primary_key=True),  # a Standing's key
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),  # seconds since 1970
)


class Levels:
    """The levels of one platform's budgets. Safe for many processes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self.settings.database, _METADATA, _LOCK)

    def close(self) -> None:
        """Give the connections back; the next use opens them again."""
        if "_engine" in self.__dict__:
            self.__dict__.pop("_engine").dispose()

    def set(self, budget: str, level: Level, at: datetime) -> Level:
        """Note a level; returns the one before (WITHIN for a budget that is new)."""
        own = _LEVELS.c.budget == budget
        with writing(self._engine, _LOCK) as connection:
            before = connection.execute(sa.select(_LEVELS.c.level).where(own)).scalar()
            values = {"level": int(level), "at": at.timestamp()}
            if before is None and level > Level.WITHIN:
                connection.execute(sa.insert(_LEVELS), [{"budget": budget, **values}])
            elif before is not None and before != int(level):
                connection.execute(sa.update(_LEVELS).where(own).values(**values))
        return Level(before or 0)

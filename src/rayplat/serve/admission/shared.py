"""The levels of all buckets, shared by the replicas through the database.

Knows that a level is read and written in one transaction; it does not know when one is asked for.
"""

from functools import cached_property

import sqlalchemy as sa

from rayplat.core.database import open_tables, writing
from rayplat.core.settings import Settings
from rayplat.serve.admission.bucket import Bucket, Level, Taken, take

_LOCK = 0x7261_7912
_METADATA = sa.MetaData()
_LEVELS = sa.Table(
    "serve_levels",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("amount", sa.Double, nullable=False),
    sa.Column("at", sa.Double, nullable=False, index=True),
)
KEPT_S = 2 * 86_400.0
"""A bucket that nobody took from for so long is forgotten: it is full, or its day is over."""


class SharedLevels:
    """The levels. Safe for many processes at once.

    Args:
        settings: names the database.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self._settings.database, _METADATA, _LOCK)

    def take(self, name: str, bucket: Bucket, asked: int, now: float) -> Taken:
        """Take up to `asked` out of the bucket of a name.

        Args:
            now: s since 1970.

        Raises:
            UnavailableError: the database does not answer.
        """
        with writing(self._engine, _LOCK) as connection:
            row = connection.execute(_LEVELS.select().where(_LEVELS.c.name == name)).first()
            taken = take(bucket, None if row is None else Level(row.amount, row.at), asked, now)
            values = {"amount": taken.level.amount, "at": taken.level.at}
            if row is None:
                connection.execute(_LEVELS.delete().where(_LEVELS.c.at < now - KEPT_S))
                connection.execute(_LEVELS.insert(), [{"name": name, **values}])
            else:
                connection.execute(_LEVELS.update().where(_LEVELS.c.name == name).values(values))
            return taken

    def close(self) -> None:
        """Close the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self.__dict__["_engine"]

"""The online store that the settings name.

Knows the schemes; it does not know the stores.
"""

from rayplat.core.errors import UserError
from rayplat.core.secrets import mask
from rayplat.core.settings import Settings
from rayplat.features.online.store import OnlineStore


def open_online(settings: Settings) -> OnlineStore:
    """The online store that `settings.online` names; it is opened when it is first used.

    Raises:
        UserError: no store goes by that scheme.
    """
    scheme = settings.online.partition("://")[0]
    if scheme == "lmdb":
        from rayplat.features.online.lmdb_store import LmdbOnlineStore

        return LmdbOnlineStore(settings.online)
    if scheme in ("redis", "rediss"):
        from rayplat.features.online.redis_store import RedisOnlineStore

        return RedisOnlineStore(settings.online)
    if scheme == "sqlite":
        raise UserError(
            f"online values are no longer kept in SQLite ({mask(settings.online)})",
            "set online to lmdb:/// and a folder, or to redis://, and materialize again",
        )
    raise UserError(
        f"there is no online store for {scheme!r} ({mask(settings.online)})",
        "set online to lmdb:/// and a folder, or to redis://host:port/0",
    )

"""Where the tables of a local head's control store are kept, so that it can be killed and started again.

Knows the two places (RocksDB below Ray's folder, Redis) and Ray's words for them; it does not know who
starts the control store again.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from rayplat.cluster.processes import platform_id
from rayplat.cluster.spec import ClusterSpec
from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings

_REDIS = ("redis", "rediss")
_ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class HeadStore:
    """What a head is given so that it keeps its tables there: variables and arguments of `ray start`."""

    variables: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    redis: str = ""


def head_store(settings: Settings, spec: ClusterSpec, folder: str) -> HeadStore:
    """The store of a local head: Redis where the cluster file says so and this platform has one.

    Args:
        folder: Ray's own folder.
    """
    parts = urlsplit(settings.online)
    if spec.platform.head_store != "redis" or parts.scheme not in _REDIS:
        return HeadStore({"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": f"{folder}/gcs"})
    scheme = "rediss://" if parts.scheme == "rediss" else ""
    words = [("--redis-username", parts.username), ("--redis-password", parts.password)]
    return HeadStore(
        {
            "RAY_REDIS_ADDRESS": f"{scheme}{parts.hostname}:{parts.port or 6379}",
            "RAY_external_storage_namespace": platform_id(settings),
        },
        tuple(f"{name}={unquote(value)}" for name, value in words if value),
        settings.online,
    )


def empty(settings: Settings, store: HeadStore) -> None:
    """Remove what an earlier head of this platform left in Redis: a new one is a new cluster.

    Raises:
        UnavailableError: Redis does not answer.
    """
    if not store.redis:
        return
    parts = urlsplit(store.redis)
    host, port = parts.hostname or "", parts.port or 6379
    mend = "start Redis, or write platform.head_store: rocksdb into the cluster file"
    try:  # Ray ends this whole process where nobody answers
        socket.create_connection((host, port), _ANSWER_S).close()
    except OSError as error:
        raise UnavailableError(f"Redis at {host}:{port} does not answer: {error}", mend) from error
    from ray._private.gcs_utils import cleanup_redis_storage

    gone = cleanup_redis_storage(
        host,
        port,
        unquote(parts.password or ""),
        parts.scheme == "rediss",
        platform_id(settings),
        unquote(parts.username or ""),
    )
    if not gone:
        raise UnavailableError(f"Redis at {host}:{port} does not let the head's tables be removed", mend)

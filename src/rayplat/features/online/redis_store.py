"""The online store on Redis: for many machines, alone or as a cluster.

Knows Redis' keys, scripts and pipelines; it does not know what heads and parts mean.

Both keys of an entity have one hash tag, so one script writes an entity whole wherever its slot lies, and
only onto the head that the change was made from: a slow writer never puts older values over newer ones.
The progress is written last and only from the expected one, so a write that was cut off is made again.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha1
from itertools import islice
from typing import TYPE_CHECKING, Any

from rayplat.core.errors import ConflictError, UnavailableError, UserError
from rayplat.core.secrets import mask
from rayplat.features.online.store import (
    Change,
    Part,
    Progress,
    Range,
    State,
    T,
    changed_since,
    check_progress,
    decode_progress,
    encode_progress,
)

if TYPE_CHECKING:
    from redis import Redis

_AT_ONCE = 500
_TRIES = 20
_PROGRESS, _LIVE, _COMING = (b"{rayplat:online}" + k for k in (b"progress", b"live", b"coming"))

_WRITE = b"""
local held = redis.call('GET', KEYS[1])
if ARGV[1] ~= '*' then
  if (held and redis.sha1hex(held) or '') ~= ARGV[1] then return 0 end
end
local drops, i = tonumber(ARGV[3]), 4
for _ = 1, drops do
  redis.call('ZREMRANGEBYLEX', KEYS[2], ARGV[i], ARGV[i + 1])
  i = i + 2
end
while ARGV[i] do
  redis.call('ZREMRANGEBYLEX', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[2], 0, ARGV[i + 2])
  i = i + 3
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

_COMMIT = b"""
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[4] ~= '' then
  if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[4] then return 0 end
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
  redis.call('HDEL', KEYS[3], ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class RedisOnlineStore:
    """The online store on Redis 6 or later.

    Args:
        url: `redis://` or `rediss://` (TLS), with user, password, host, port and database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._held: tuple[int, Redis] | None = None

    def read(self, reading: Callable[["_Moment"], T]) -> T:
        """See `OnlineStore.read`."""
        for _ in range(_TRIES):
            moment = _Moment(self._run)
            found = reading(moment)
            if moment.holds():
                return found
        raise UnavailableError(
            f"entities changed during {_TRIES} readings of the online store", "ask again, for fewer at once"
        )

    def heads(self, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
        """See `OnlineStore.heads`."""
        return _Moment(self._run).heads(view, entities)

    def look(self, looking: Callable[["_Glance"], T]) -> T:
        """See `OnlineStore.look`."""
        return self.read(lambda moment: looking(_Glance(moment)))

    def write(
        self,
        view: str,
        changes: Mapping[bytes, Change],
        progress: Progress,
        *,
        expected: Progress | None,
        replace: bool = False,
    ) -> None:
        """See `OnlineStore.write`."""
        name = view.encode()
        raw = self._run([("HGET", _PROGRESS, name)])[0]
        check_progress(view, None if raw is None else decode_progress(raw), expected)
        live, coming = self._live(name), b""
        if replace:
            # Another life of the view's keys: readers see the old values until all new ones are there.
            coming = os.urandom(8).hex().encode()
            self._run([("HSET", _COMING, name, coming)])
            self._remove(name, keep=(live, coming))
        items = iter(changes.items())
        while chunk := list(islice(items, _AT_ONCE)):
            done = self._run([_script(name, coming or live, e, change, replace) for e, change in chunk])
            for (entity, _), written in zip(chunk, done, strict=True):
                if not written:
                    raise changed_since(view, entity)
        commit = (_PROGRESS, _LIVE, _COMING, name, raw or b"", encode_progress(progress), coming)
        if not self._run([("EVAL", _COMMIT, 3, *commit)])[0]:
            raise ConflictError(
                f"the online values of {view!r} were written by another process meanwhile",
                "run this one again",
            )
        if replace:
            self._remove(name, keep=(coming,))

    def delete_entity(self, view: str, entity: bytes) -> bool:
        """See `OnlineStore.delete_entity`."""
        name = view.encode()
        keys = _keys(name, self._live(name), entity)
        return bool(self._run([("DEL", *keys)])[0])

    def drop(self, view: str) -> None:
        """See `OnlineStore.drop`."""
        name = view.encode()
        for key in (_PROGRESS, _COMING, _LIVE):
            self._run([("HDEL", key, name)])
        self._remove(name, keep=())

    def views(self) -> dict[str, Progress]:
        """See `OnlineStore.views`."""
        found = self._run([("HGETALL", _PROGRESS)])[0]
        return {name.decode(): decode_progress(raw) for name, raw in found.items()}

    def close(self) -> None:
        """See `OnlineStore.close`."""
        held, self._held = self._held, None
        if held is not None:
            held[1].close()

    def _live(self, name: bytes) -> bytes:
        return self._run([("HGET", _LIVE, name)])[0] or b"0"

    def _remove(self, name: bytes, keep: tuple[bytes, ...]) -> None:
        """Remove the keys of all lives of a view but those to keep."""
        start = b"rayplat:{" + name + b":"
        kept = tuple(start + life + b":" for life in keep)
        found = (k for k in self._scan(start) if not k.startswith(kept)) if kept else self._scan(start)
        while chunk := list(islice(found, _AT_ONCE)):
            self._run([("UNLINK", key) for key in chunk])

    def _scan(self, start: bytes) -> Iterator[bytes]:
        pattern = b"".join(b"\\" + bytes([c]) if c in b"*?[]\\^" else bytes([c]) for c in start) + b"*"
        keys: Iterable[bytes] = self._client().scan_iter(match=pattern, count=1000)
        yield from keys

    def _client(self) -> "Redis":
        import redis

        client: Any
        if self._held is None or self._held[0] != os.getpid():
            try:
                client = redis.Redis.from_url(self._url)
                if client.info("cluster").get("cluster_enabled"):
                    client.close()
                    client = redis.RedisCluster.from_url(self._url)
            except ValueError as error:
                raise UserError(
                    f"{mask(self._url)} is no address of a Redis: {error}", "give redis://host:port/0"
                ) from error
            except redis.RedisError as error:
                raise self._gone(error) from error
            self._held = os.getpid(), client
        return self._held[1]

    def _run(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Answers to commands, sent at once."""
        import redis

        if not commands:
            return []
        client: Any = self._client()
        try:
            if len(commands) == 1:
                return [client.execute_command(*commands[0])]
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute())
        except redis.RedisError as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"the online store {mask(self._url)} does not answer: {error}", "check that Redis runs there"
        )


class _Glance:
    """A short reader over one moment."""

    def __init__(self, moment: "_Moment") -> None:
        self._moment = moment

    def state(self, _view: str) -> State | None:
        return None  # a write touches each entity by itself

    def standing(self, view: str) -> bytes | None:
        # A write moves the progress last: a head that is read later may be ahead of it, and is never behind.
        progress = self._moment.progress(view)
        return None if progress is None else encode_progress(progress)

    def heads(self, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
        return self._moment.heads(view, entities)


class _Moment:
    """A reader that knows afterwards whether a writer came between its reads."""

    def __init__(self, run: Callable[[Sequence[tuple[Any, ...]]], list[Any]]) -> None:
        self._run = run
        self._lives: dict[bytes, bytes] = {}
        self._heads: dict[bytes, bytes | None] = {}
        self._entered: set[bytes] = set()

    def progress(self, view: str) -> Progress | None:
        name = view.encode()
        raw, live = self._run([("HGET", _PROGRESS, name), ("HGET", _LIVE, name)])
        self._lives[name] = live or b"0"
        return None if raw is None else decode_progress(raw)

    def heads(self, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
        if not entities:
            return []
        name = view.encode()
        keys = [_keys(name, self._life(name), entity)[0] for entity in entities]
        found = self._run([("GET", key) for key in keys])
        self._heads.update(zip(keys, found, strict=True))
        return found

    def parts(self, view: str, wanted: Sequence[Range]) -> list[list[Part]]:
        name = view.encode()
        commands = []
        for entity, low, high in wanted:
            head, parts = _keys(name, self._life(name), entity)
            self._entered.add(head)
            commands.append(("ZRANGEBYLEX", parts, b"[" + low, b"(" + high))
        return [[(m[: m[-1]], m[m[-1] : -1]) for m in members] for members in self._run(commands)]

    def holds(self) -> bool:
        """Whether the entities whose parts were read are as they were at first."""
        keys = list(self._entered)
        now = self._run([("GET", key) for key in keys])
        return all(self._heads.get(key) == head for key, head in zip(keys, now, strict=True))

    def _life(self, name: bytes) -> bytes:
        if name not in self._lives:
            self._lives[name] = self._run([("HGET", _LIVE, name)])[0] or b"0"
        return self._lives[name]


def _keys(name: bytes, life: bytes, entity: bytes) -> tuple[bytes, bytes]:
    tag = b"rayplat:{" + name + b":" + life + b":" + entity + b"}"
    return tag + b"h", tag + b"p"


def _script(name: bytes, life: bytes, entity: bytes, change: Change, replace: bool) -> tuple[Any, ...]:
    before = b"*" if replace else b"" if change.before is None else sha1(change.before).hexdigest().encode()  # noqa: S324 - tells heads apart, protects nothing
    arguments: list[bytes] = []
    for low, high in change.drops:
        arguments += (b"[" + low, b"(" + high)
    for key, value in change.puts:
        # The key first, so that members are in its order; its length last, so that it can be cut off.
        arguments += (b"[" + key, b"(" + _after(key), key + value + bytes([len(key)]))
    return ("EVAL", _WRITE, 2, *_keys(name, life, entity), before, change.head, len(change.drops), *arguments)


def _after(prefix: bytes) -> bytes:
    cut = prefix.rstrip(b"\xff")
    return cut[:-1] + bytes([cut[-1] + 1])

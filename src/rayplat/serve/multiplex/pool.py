"""The pool: what is loaded on demand, at most so many at a time, the least recently used one let go.

Knows who is loaded, loading and in use; it does not know what is loaded. However many ask for one that is
not there, it is loaded once. One that is let go is given to nobody any more, but who has it keeps it until he
is done: what it holds is free after that. Who asks for one that could not be loaded is told so for a while,
without another try: a broken one costs the others nothing.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from rayplat.core.errors import UnavailableError

T = TypeVar("T")
FAILED_FOR_S = 5.0
"""So long one that could not be loaded is not tried again."""
_LOADERS = 2


@dataclass(slots=True, eq=False)
class _Held(Generic[T]):
    value: T
    size: int
    users: int = 0
    gone: bool = False


class Lease(Generic[T]):
    """The use of one value; to be given back once."""

    __slots__ = ("_given", "_held", "_pool")

    def __init__(self, pool: "Pool[T]", held: "_Held[T]") -> None:
        self._pool = pool
        self._held = held
        self._given = False

    @property
    def value(self) -> T:
        """What was asked for."""
        return self._held.value

    def done(self) -> None:
        """Give it back; further calls do nothing."""
        if not self._given:
            self._given = True
            self._pool.returned(self._held)


Then = Callable[[Lease[T] | Exception], None]


class Pool(Generic[T]):
    """See the module. Safe for many threads.

    Args:
        load: makes the value of a key, on a thread of the pool.
        kept: so many are loaded at most, those in use after they were let go not counted.
        most_bytes: so large they are at most together; None: however large. A single one may be larger.
        size_of: bytes of a value.
        dropped: told of each value that nobody has any more; from any thread.
        clock: s.
    """

    def __init__(
        self,
        load: Callable[[str], T],
        *,
        kept: int,
        most_bytes: int | None = None,
        size_of: Callable[[T], int] = lambda _: 0,
        dropped: Callable[[T], None] = lambda _: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._load = load
        self._kept = kept
        self._most_bytes = most_bytes
        self._size_of = size_of
        self._dropped = dropped
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, _Held[T]] = OrderedDict()
        self._waiting: dict[str, list[Then[T]]] = {}
        self._failed: dict[str, tuple[Exception, float]] = {}
        self._closed = False
        self._loaders = ThreadPoolExecutor(_LOADERS, "load-model")

    @property
    def loaded(self) -> list[str]:
        """The keys that are loaded, the least recently used one first."""
        with self._lock:
            return list(self._held)

    def ask(self, key: str, then: Then[T]) -> None:
        """Get the value of a key: at once on this thread where it is loaded, else on another one later."""
        found: Lease[T] | Exception | None
        with self._lock:
            found = self._found(key)
            if found is None:
                waiting = self._waiting.get(key)
                if waiting is not None:
                    waiting.append(then)
                    return
                self._waiting[key] = [then]
        if found is not None:
            then(found)
            return
        try:
            self._loaders.submit(self._loading, key)
        except RuntimeError:
            self._tell(key, UnavailableError("the replica is stopping", "ask again"))

    def close(self) -> None:
        """Load nothing more, and let everything go."""
        with self._lock:
            self._closed = True
        self._loaders.shutdown(cancel_futures=True)
        with self._lock:
            waiting = list(self._waiting)
            free = [held for held in map(self._let_go, list(self._held)) if held is not None]
        for key in waiting:
            self._tell(key, UnavailableError("the replica is stopping", "ask again"))
        self._drop(free)

    def returned(self, held: "_Held[T]") -> None:
        """Somebody is done with a value."""
        with self._lock:
            held.users -= 1
            free = held.gone and held.users == 0
        if free:
            self._dropped(held.value)

    def _found(self, key: str) -> Lease[T] | Exception | None:
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
            held.users += 1
            return Lease(self, held)
        if self._closed:
            return UnavailableError("the replica is stopping", "ask again")
        failed = self._failed.get(key)
        if failed is None or failed[1] <= self._clock():
            return None
        return failed[0]

    def _loading(self, key: str) -> None:
        with self._lock:
            free = self._made_room(0)
        self._drop(free)  # before it is loaded, so that both are not in memory
        try:
            value = self._load(key)
            held = _Held(value, self._size_of(value))
        # Whatever keeps it from being loaded is told to those who want it, and to nobody else.
        except Exception as error:
            with self._lock:
                self._failed[key] = (error, self._clock() + FAILED_FOR_S)
            self._tell(key, error)
            return
        with self._lock:
            free = self._made_room(held.size)
            self._failed.pop(key, None)
            self._held[key] = held
            waiting = self._waiting.pop(key, [])
            held.users = len(waiting)
        self._drop(free)
        for then in waiting:
            then(Lease(self, held))

    def _made_room(self, size: int) -> "list[_Held[T]]":
        """Let go of who was used least recently until one more of this size fits; those that nobody has."""
        free = []
        while self._held and self._full(size):
            held = self._let_go(next(iter(self._held)))
            if held is not None:
                free.append(held)
        return free

    def _full(self, size: int) -> bool:
        if len(self._held) >= self._kept:
            return True
        together = sum(held.size for held in self._held.values()) + size
        return self._most_bytes is not None and together > self._most_bytes

    def _drop(self, free: "list[_Held[T]]") -> None:
        for held in free:
            self._dropped(held.value)

    def _let_go(self, key: str) -> "_Held[T] | None":
        held = self._held.pop(key)
        held.gone = True
        return held if held.users == 0 else None

    def _tell(self, key: str, error: Exception) -> None:
        with self._lock:
            waiting = self._waiting.pop(key, [])
        for then in waiting:
            then(error)

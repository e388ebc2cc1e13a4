"""The dealer: gives each connection of a machine to the replica that has the fewest, or lets it wait.

Knows the replicas that sit at the keeper, what they report, and the connections that wait; it does not know
how many replicas there should be. A replica that leaves hands its connections back, and they are dealt anew.
"""

import asyncio
import contextlib
import itertools
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from rayplat.serve.front.reply import Reply
from rayplat.serve.front.seat import QUIT, RETURN, descriptors, hand_over
from rayplat.serve.replicas.affinity import asked_choice, turn_of
from rayplat.serve.replicas.arrivals import Arrivals
from rayplat.serve.replicas.waiting import Waiting, answer, refuse

_READ = 65536
_FDS = socket.CMSG_SPACE(64 * 4)
_HEALTH = ("/v2/health/live", "/v2/health/ready")


@dataclass(slots=True, eq=False)
class Sitting:
    """A replica at the keeper.

    Attributes:
        hello: what it has told of itself.
        open: connections that it has.
        ongoing: requests on their way at it, on the average of its last report.
        answered, seconds: its answers since they were last asked for.
        rest: what it has said of a line.
        given: connections that it has handed back, whose lines are on their way.
    """

    link: socket.socket
    hello: dict[str, Any] = field(default_factory=dict)
    open: int = 0
    ongoing: float = 0.0
    answered: int = 0
    seconds: float = 0.0
    leaving: bool = False
    rest: bytes = b""
    given: deque[socket.socket] = field(default_factory=deque)

    @property
    def endpoint(self) -> str:
        """Of which endpoint; empty before it has told."""
        return str(self.hello.get("endpoint", ""))

    @property
    def name(self) -> str:
        """Tells it from the others of its endpoint."""
        return str(self.hello.get("since", ""))

    @property
    def bridge(self) -> bool:
        """Whether it stands in until Ray Serve's own replica comes."""
        return bool(self.hello.get("bridge"))


class Dealer:
    """Deals connections; used on one loop.

    Args:
        public: the listening socket that all may reach.
        seats: the listening socket of the replicas.
        patience: how many may wait for an endpoint, and how long (s); None: nobody is awaited.
        joined: told of each replica that sits down.
        silent_s: a peer that says nothing for so long is dropped.
    """

    def __init__(
        self,
        public: socket.socket,
        seats: socket.socket,
        patience: Callable[[str], tuple[int, float] | None],
        joined: Callable[[Sitting], None],
        silent_s: float = 10.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._seats = seats
        self._patience = patience
        self._joined = joined
        self._turn = itertools.count()
        self.sitting: list[Sitting] = []
        self.waiting: dict[str, Waiting] = {}
        self.arrivals = Arrivals(public, self._arrived, silent_s)
        self._loop.add_reader(seats.fileno(), self._seat)

    def of(self, endpoint: str) -> list[Sitting]:
        """The replicas of an endpoint that take connections."""
        return [one for one in self.sitting if one.endpoint == endpoint and not one.leaving]

    def held(self, endpoint: str) -> int:
        """How many connections wait for an endpoint."""
        return len(self.waiting.get(endpoint, ()))

    def quit(self, one: Sitting) -> None:
        """Ask a replica to end."""
        with contextlib.suppress(OSError):
            one.link.send(QUIT)

    def sweep(self, now: float) -> None:
        """Refuse and drop what has waited too long.

        Args:
            now: of `time.monotonic`, s.
        """
        self.arrivals.sweep(now)
        for waiting in self.waiting.values():
            waiting.sweep(now)

    def forget(self, endpoint: str) -> None:
        """The endpoint is gone: nobody is to wait for it."""
        self.waiting.pop(endpoint, Waiting()).refuse_all(404, f"there is no endpoint {endpoint!r}")

    def level(self, endpoint: str) -> None:
        """Ask replicas that have more connections than their part for those above it."""
        there = self.of(endpoint)
        if len(there) < 2:
            return
        most = -(-sum(one.open for one in there) // len(there))
        for one in there:
            with contextlib.suppress(OSError):
                one.link.send(RETURN * max(0, one.open - most))

    def close(self) -> None:
        """Accept and deal no more."""
        self.arrivals.close()
        self._loop.remove_reader(self._seats.fileno())
        for waiting in self.waiting.values():
            waiting.refuse_all(503, "the platform is stopping")
        for one in list(self.sitting):
            self._gone(one)

    def _arrived(self, connection: socket.socket, endpoint: str | None, seen: bytes) -> None:
        there = self.of(endpoint) if endpoint is not None else []
        if there and self._dealt(connection, there, asked_choice(seen)):
            return
        patience = self._patience(endpoint) if endpoint is not None else None
        if endpoint is not None and patience is not None:
            waiting = self.waiting.setdefault(endpoint, Waiting())
            waiting.add(connection, time.monotonic() + patience[1], patience[0])
            return
        # Of what no replica is asked plainly, any can say what is wrong with it.
        if self._dealt(connection, [one for one in self.sitting if not one.leaving]):
            return
        path = seen.split(b" ", 2)[1:2]
        if path and path[0].decode("latin-1") in _HEALTH:
            answer(connection, Reply(b'{"live":true,"ready":true}'))
        else:
            refuse(connection, 404, "no such endpoint answers here")

    def _dealt(self, connection: socket.socket, there: list[Sitting], choice: bytes | None = None) -> bool:
        order: list[Sitting]
        if choice is None:
            order = sorted(there, key=lambda one: (one.open, one.ongoing, next(self._turn)))
        else:
            least = min(one.open for one in there)
            order = sorted(there, key=lambda one: turn_of(choice, one.name, one.open, least))
        for one in order:
            if hand_over(one.link, connection):
                connection.close()
                one.open += 1
                return True
        return False

    def _seat(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._seats.accept()
                link.setblocking(False)
                one = Sitting(link)
                self._loop.add_reader(link.fileno(), self._hear, one)

    def _hear(self, one: Sitting) -> None:
        while one.link.fileno() >= 0:
            try:
                data, ancillary, _, _ = one.link.recvmsg(_READ, _FDS)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, ancillary = b"", []
            one.given.extend(descriptors(ancillary))
            if not data:
                self._gone(one)
                return
            *lines, one.rest = (one.rest + data).split(b"\n")
            for line in lines:
                self._told(one, orjson.loads(line))

    def _told(self, one: Sitting, told: dict[str, Any]) -> None:
        if "hello" in told:
            one.hello = told["hello"]
            self.sitting.append(one)
            self._joined(one)
            self._serve_waiting(one.endpoint)
            self.level(one.endpoint)
        elif "give" in told and one.given:
            one.open = max(0, one.open - 1)
            connection = one.given.popleft()
            connection.setblocking(False)
            self.arrivals.watch(connection, idle=True)
        elif "bye" in told:
            one.leaving = True
            with contextlib.suppress(OSError):
                one.link.shutdown(socket.SHUT_WR)
        elif "open" in told:
            one.open, one.ongoing = told["open"], told["ongoing"]
            one.answered += told["answered"]
            one.seconds += told["seconds"]

    def _serve_waiting(self, endpoint: str) -> None:
        waiting = self.waiting.get(endpoint)
        while waiting and (connection := waiting.take()) is not None:
            if not self._dealt(connection, self.of(endpoint)):
                waiting.put_back(connection, time.monotonic() + 1.0)
                return

    def _gone(self, one: Sitting) -> None:
        self._loop.remove_reader(one.link.fileno())
        one.link.close()
        if one in self.sitting:
            self.sitting.remove(one)

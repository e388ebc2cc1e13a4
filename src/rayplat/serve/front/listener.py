"""The listener: a thread with an event loop, and the sockets that a replica answers on.

Knows binding, and an end that loses no answer that was begun; it does not know paths.

On the port that all may reach, every replica of a machine listens (SO_REUSEPORT), and the kernel spreads
connections over them; or it has a seat at the machine's keeper, which deals them. On a port of the loopback
that is its own, a replica is asked by its neighbours.
"""

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayplat.core.errors import UnavailableError
from rayplat.features.server.process import Where, listen
from rayplat.serve.admission.admission import Admission
from rayplat.serve.front.connection import STALLED_S, Connection, Shared
from rayplat.serve.front.door import Door
from rayplat.serve.front.neighbours import Neighbours
from rayplat.serve.front.rooms import Rooms
from rayplat.serve.front.seated import Seated
from rayplat.serve.front.stream import Streams
from rayplat.serve.front.turn import MOST_REQUESTS, Turn
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.multiplex.choices import Choice
from rayplat.serve.multiplex.chosen import Chosen
from rayplat.serve.multiplex.pool import Pool
from rayplat.serve.prediction_log import Log
from rayplat.serve.served import Served
from rayplat.serve.stages import stages_of

DRAIN_S = 10.0
"""How long answers that were begun may take at the end."""

STREAMS_END_S = 8.0
"""After so long a stream that goes on is told that the replica ends, within `DRAIN_S`."""

_BACKLOG = 1024
_STARTED_WITHIN_S = 10.0
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class SeatAt:
    """Where a front has its seat, and what it tells the keeper there; see `seat.Seat`."""

    path: Path
    hello: dict[str, Any]
    quit_asked: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fronted:
    """What a front answers with. `log`, `admission` and `keyed` are closed by who made them.

    Attributes:
        seat: None: the front listens for itself.
        batch: so many requests are answered together at most.
        choices, pool: the models and versions beside its own, and where they are loaded; None: none.
    """

    served: Served
    admission: Admission
    log: Log
    neighbours: Neighbours | None = None
    keyed: KeyedRequests | None = None
    seat: SeatAt | None = None
    batch: int = MOST_REQUESTS
    choices: tuple[Choice, ...] = ()
    pool: Pool[Chosen] | None = None


class Front:
    """The listeners of one replica, on a thread of their own.

    Args:
        where: the address that all may reach; port 0: a free one.
        stalled_s: how long the rest of a request may take to arrive.
    """

    def __init__(self, fronted: Fronted, where: Where, stalled_s: float = STALLED_S) -> None:
        self._fronted = fronted
        self._stalled_s = stalled_s
        # `workers` asks for SO_REUSEPORT.
        self._public = None if fronted.seat is not None else listen(Where(where.host, where.port, workers=2))
        self._private = listen(Where(_LOOPBACK, 0))
        self.port = where.port if self._public is None else int(self._public.getsockname()[1])
        self.private_port = int(self._private.getsockname()[1])
        self._begun = threading.Event()
        self._ended: Callable[[], object] = lambda: None
        # Those of a model that was let go are held by nobody.
        self._streams: weakref.WeakSet[Streams] = weakref.WeakSet()
        self._thread = threading.Thread(target=self._run, name="front", daemon=True)

    def start(self) -> None:
        """Answer from now on.

        Raises:
            UnavailableError: the event loop did not start.
        """
        self._thread.start()
        if not self._begun.wait(_STARTED_WITHIN_S):
            raise UnavailableError("the front has not started", "look at the replica's log")

    def close(self) -> None:
        """Take no more connections, answer what was asked, and end. May be called twice."""
        self._ended()
        self._thread.join(DRAIN_S + 5)

    def _run(self) -> None:
        import uvloop

        uvloop.run(self._answer())

    async def _answer(self) -> None:
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        fronted = self._fronted
        turn = self._turn(fronted.served)
        near = fronted.neighbours
        streams = self._streams_of(fronted.served)
        public, private, rooms = self._doors(turn, near, streams)
        shared = (public, private)
        servers = [
            await loop.create_server(lambda one=one: Connection(one), sock=sock, backlog=_BACKLOG)  # type: ignore[misc]
            for one, sock in zip(shared, (self._public, self._private), strict=True)
            if sock is not None
        ]
        self._ended = lambda: loop.is_closed() or loop.call_soon_threadsafe(end.set)
        if near is not None:
            near.tell(fronted.served.predictor.endpoint, self.private_port)
        seat = fronted.seat
        seated = None if seat is None else Seated(seat.path, seat.hello, public, seat.quit_asked)
        sweeper = asyncio.create_task(self._sweep(shared))
        self._begun.set()
        await end.wait()
        if near is not None:
            near.withdraw()
        sweeper.cancel()
        loop.call_later(STREAMS_END_S, self._stop_streams)
        for server in servers:
            server.close()
        if seated is not None:
            await seated.leave(DRAIN_S)
        await _drain(shared)
        turn.close()
        if rooms is not None:
            rooms.close()

    def _turn(self, served: Served) -> Turn:
        fronted = self._fronted
        return Turn(
            served.form,
            served.predictor.answer,
            fronted.log,
            fronted.admission.waited,
            stages=stages_of(served.predictor.endpoint),
            most=fronted.batch,
        )

    def _streams_of(self, served: Served) -> Streams | None:
        if served.parts is None:
            return None
        made = Streams(served, self._fronted.log)
        self._streams.add(made)
        return made

    def _stop_streams(self) -> None:
        for streams in list(self._streams):
            streams.stop()

    def _rooms(self, alone: Callable[[], bool]) -> Rooms | None:
        """The rooms of the endpoint's choices."""
        fronted = self._fronted
        if fronted.pool is None:
            return None

        def made(chosen: Chosen, name: str) -> Door:
            return Door(
                chosen.served,
                fronted.admission,
                self._turn(chosen.served),
                alone,
                keyed=fronted.keyed,
                streams=self._streams_of(chosen.served),
                choice=name,
            )

        named = {choice.name: choice for choice in fronted.choices}
        return Rooms(fronted.served.predictor.endpoint, named, fronted.pool, made)

    def _doors(
        self, turn: Turn, near: Neighbours | None, streams: Streams | None
    ) -> tuple[Shared, Shared, Rooms | None]:
        """What public and private connections share: a neighbour's request is not passed on again."""
        fronted = self._fronted
        both: list[Shared] = []

        def alone() -> bool:
            return sum(len(one.open) for one in both) == 1

        rooms = self._rooms(alone)
        passed = None if near is None else near.ask
        both.extend(
            Shared(
                Door(
                    fronted.served,
                    fronted.admission,
                    turn,
                    alone,
                    elsewhere,
                    keyed=fronted.keyed,
                    streams=streams,
                    rooms=rooms,
                ).answer
            )
            for elsewhere in (passed, None)
        )
        return both[0], both[1], rooms

    async def _sweep(self, shared: tuple[Shared, ...]) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._stalled_s / 4))
            for one in shared:
                one.sweep(time.monotonic(), self._stalled_s)


async def _drain(shared: tuple[Shared, ...]) -> None:
    """Answer what has been asked, tell that it was the last, and close."""
    for one in shared:
        one.draining = True
    deadline = time.monotonic() + DRAIN_S
    while any(one.open for one in shared) and time.monotonic() < deadline:
        for one in shared:
            for connection in list(one.open):
                if connection.idle:
                    connection.close()
        await asyncio.sleep(0.01)
    for one in shared:
        for connection in list(one.open):
            connection.close()

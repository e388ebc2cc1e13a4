"""The public connections of a replica that has a seat, and how busy they are.

Knows which connections are idle, how many requests are on their way and how long they took; it does not know
what is asked, nor who decides on the number of replicas.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rayplat.serve.front.connection import Answer, Connection, Shared
from rayplat.serve.front.head import Head
from rayplat.serve.front.reply import Reply
from rayplat.serve.front.seat import Seat

REPORT_S = 0.05
_QUIET_S = 1.0
_ALL = 1 << 30


class Load:
    """How busy a replica is, from one report to the next."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._ongoing = 0
        self._area = 0.0
        self._since = self._begun = time.perf_counter()
        self._answered = 0
        self._seconds = 0.0
        self.after: Callable[[], None] | None = None

    def answer(self, head: Head, body: bytes, told: Callable[[Reply], None]) -> None:
        """Answer, and count; see `connection.Answer`."""
        begin = self._moved(1)

        def done(reply: Reply) -> None:
            now = self._moved(-1)
            self._answered += 1
            self._seconds += now - begin
            if reply.stream is not None:
                # On its way until its end, but what it takes until then says nothing of the load.
                self._moved(1)
                reply.stream.after.append(self._streamed)
            told(reply)
            if self.after is not None:
                self.after()

        self._answer(head, body, done)

    def _streamed(self) -> None:
        self._moved(-1)
        if self.after is not None:
            self.after()

    def report(self) -> dict[str, Any]:
        """What happened since the last report: the mean of requests on their way, answers, their seconds."""
        now = self._moved(0)
        passed = now - self._begun
        told = {
            "ongoing": round(self._area / passed, 3) if passed > 0 else float(self._ongoing),
            "answered": self._answered,
            "seconds": round(self._seconds, 6),
        }
        self._begun, self._area, self._answered, self._seconds = now, 0.0, 0, 0.0
        return told

    def _moved(self, change: int) -> float:
        now = time.perf_counter()
        self._area += self._ongoing * (now - self._since)
        self._since = now
        self._ongoing += change
        return now


class Seated:
    """The connections that a keeper deals to a replica.

    Args:
        path: of the keeper's socket.
        hello: see `Seat`.
        shared: of the public connections; its answers are counted from now on.
        quit_asked: called when this replica is to end.
    """

    def __init__(
        self, path: Path, hello: dict[str, Any], shared: Shared, quit_asked: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._shared = shared
        self._load = Load(shared.answer)
        shared.answer = self._load.answer
        self._owed = 0
        self._coming: set[asyncio.Task[Any]] = set()
        self._seat = Seat(path, hello, self._take, self._owe, quit_asked)
        self._staying = [self._loop.create_task(one) for one in (self._seat.stay(), self._tell())]

    async def leave(self, within_s: float) -> None:
        """Take no more connections, answer what is asked, and hand every connection back as it is idle."""
        await self._seat.leave()
        self._owed, self._load.after = _ALL, self._soon
        deadline = time.monotonic() + within_s
        while (self._coming or self._shared.open) and time.monotonic() < deadline:
            for connection in list(self._shared.open):
                if not self._handed_back(connection) and connection.idle:
                    connection.close()
            await asyncio.sleep(0.002)
        for task in self._staying:
            task.cancel()
        self._seat.close()

    def _take(self, taken: socket.socket) -> None:
        taken.setblocking(False)
        made = self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: Connection(self._shared), taken)
        )
        self._coming.add(made)
        made.add_done_callback(self._come)

    def _come(self, made: "asyncio.Task[Any]") -> None:
        self._coming.discard(made)
        with contextlib.suppress(asyncio.CancelledError):
            # A peer that has gone before it was taken is nobody's fault.
            made.exception()

    def _owe(self) -> None:
        self._owed += 1
        self._load.after = self._soon
        self._pay()

    def _soon(self) -> None:
        # Right after an answer a connection is idle, until its peer asks again.
        self._loop.call_soon(self._pay)

    def _pay(self) -> None:
        for connection in list(self._shared.open):
            if self._owed <= 0:
                break
            if self._handed_back(connection):
                self._owed -= 1
        if self._owed <= 0:
            self._load.after = None

    def _handed_back(self, connection: Connection) -> bool:
        taken = connection.taken_out()
        return taken is not None and self._seat.give(taken)

    async def _tell(self) -> None:
        told_at, last = 0.0, (False, -1)
        while True:
            await asyncio.sleep(REPORT_S)
            report, count = self._load.report(), len(self._shared.open) + len(self._coming)
            now, seen = time.monotonic(), (bool(report["ongoing"]), count)
            # That it is idle now is told too: the last busy moment would count as going on.
            if report["ongoing"] or seen != last or now - told_at > _QUIET_S:
                self._seat.report({**report, "open": count})
                told_at, last = now, seen

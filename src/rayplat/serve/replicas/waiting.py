"""Connections that wait for a replica: bounded, and not for ever.

Knows how many may wait, how long, and what they are told after that; it does not know how a replica comes.
"""

import contextlib
import socket
from collections import deque
from dataclasses import dataclass

from rayplat.features.server.faults import PROBLEM, problem
from rayplat.serve.front.reply import Reply

_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class _One:
    connection: socket.socket
    until: float


class Waiting:
    """The connections that wait for one endpoint, the oldest first."""

    def __init__(self) -> None:
        self._held: deque[_One] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, connection: socket.socket, until: float, most: int) -> None:
        """Let a connection wait until a time; it is refused where `most` wait already."""
        if len(self._held) >= most:
            refuse(connection, 503, "too many wait for the endpoint: ask again in a moment")
        else:
            self._held.append(_One(connection, until))

    def take(self) -> socket.socket | None:
        """The one that has waited longest."""
        return self._held.popleft().connection if self._held else None

    def put_back(self, connection: socket.socket, until: float) -> None:
        """Let one that was taken wait on, before the others."""
        self._held.appendleft(_One(connection, until))

    def sweep(self, now: float) -> None:
        """Refuse those that have waited too long."""
        while self._held and self._held[0].until < now:
            refuse(self._held.popleft().connection, 503, "no replica came in time: ask again in a moment")

    def refuse_all(self, status: int, why: str) -> None:
        """Refuse all."""
        while self._held:
            refuse(self._held.popleft().connection, status, why)


def refuse(connection: socket.socket, status: int, why: str) -> None:
    """Answer with a problem document whatever was asked, and close."""
    more = b"retry-after: 1\r\n" if status == 503 else b""
    answer(connection, Reply(problem(status, why), status, PROBLEM, more))


def answer(connection: socket.socket, reply: Reply) -> None:
    """Answer whatever was asked, and close."""
    with connection, contextlib.suppress(OSError):
        # Bytes that were not read would make the kernel reset the connection, and the answer be lost.
        with contextlib.suppress(BlockingIOError):
            while len(connection.recv(_CHUNK)) == _CHUNK:
                continue
        connection.send(reply.wire(close=True))
        connection.shutdown(socket.SHUT_WR)

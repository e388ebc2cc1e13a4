"""Connections as they arrive: which endpoint one asks, without taking a byte from it.

Knows the first line of HTTP and when a peer has said enough of it; it does not know who answers. What the
peer has sent stays in its socket (MSG_PEEK), for the replica that gets the connection.
"""

import asyncio
import re
import socket
import time
from collections.abc import Callable

_LINE = re.compile(
    rb"[A-Z]{1,20} /(?:v1/endpoints|endpoints|v2/models)/([a-z][a-z0-9_]{0,99})(?=[/? ])", re.ASCII
)
_PEEKED = 512
_AGAIN_S = 0.02
_MOST_AT_ONCE = 64

Arrived = Callable[[socket.socket, str | None, bytes], None]
"""A connection, the endpoint that it asks (None: none, or not plainly), and what was seen of it."""


def asked_endpoint(seen: bytes) -> str | None:
    """The endpoint that the beginning of a request names."""
    found = _LINE.match(seen)
    return None if found is None else found[1].decode("ascii")


class Arrivals:
    """The connections of one listening socket that have said nothing yet; used on one loop.

    Args:
        listening: the socket, not blocking.
        arrived: takes each connection whose first line is there.
        silent_s: a peer that says nothing for so long is dropped.
    """

    def __init__(self, listening: socket.socket, arrived: Arrived, silent_s: float) -> None:
        self._listening = listening
        self._arrived = arrived
        self._silent_s = silent_s
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[socket.socket, float | None]] = {}
        self._loop.add_reader(listening.fileno(), self._accept)

    def sweep(self, now: float) -> None:
        """Drop peers that say nothing.

        Args:
            now: of `time.monotonic`, s.
        """
        for connection, since in list(self._waiting.values()):
            if since is not None and now - since > self._silent_s:
                self._forget(connection)
                connection.close()

    def watch(self, connection: socket.socket, *, idle: bool = False) -> None:
        """Wait until a connection has said what it asks.

        Args:
            idle: it has asked before, and may be silent as long as it likes.
        """
        self._waiting[connection.fileno()] = connection, None if idle else time.monotonic()
        self._loop.add_reader(connection.fileno(), self._look, connection)

    def close(self) -> None:
        """Accept no more, and drop those that have said nothing."""
        self._loop.remove_reader(self._listening.fileno())
        for connection, _ in list(self._waiting.values()):
            self._forget(connection)
            connection.close()

    def _accept(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.watch(connection)

    def _look(self, connection: socket.socket) -> None:
        if connection.fileno() not in self._waiting:
            return  # swept meanwhile
        try:
            seen = connection.recv(_PEEKED, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            seen = b""
        if not seen:
            self._forget(connection)
            connection.close()
        elif b" HTTP/" in seen or b"\n" in seen or len(seen) >= _PEEKED:
            self._forget(connection)
            self._arrived(connection, asked_endpoint(seen), seen)
        else:
            since = self._waiting[connection.fileno()][1]
            self._waiting[connection.fileno()] = connection, since or time.monotonic()
            # It stays readable: the loop would turn without rest.
            self._loop.remove_reader(connection.fileno())
            self._loop.call_later(_AGAIN_S, self._look_again, connection)

    def _look_again(self, connection: socket.socket) -> None:
        if connection.fileno() in self._waiting:
            self._loop.add_reader(connection.fileno(), self._look, connection)

    def _forget(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection.fileno())
        del self._waiting[connection.fileno()]

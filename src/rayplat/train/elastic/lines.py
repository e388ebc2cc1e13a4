"""Lines of JSON over a socket: how the controller and its members talk.

Knows how a message is framed, sent and read; it does not know what any message means. A connection that
closes is a message too: the kernel closes it the moment a process dies, long before any heartbeat would.
"""

import socket
from collections.abc import Mapping
from typing import Any

import orjson

MOST_BYTES = 1 << 20
"""A line is some hundred bytes; more is not one of ours."""

Message = dict[str, Any]


def send(connection: socket.socket, message: Mapping[str, Any]) -> bool:
    """Send one message whole. Returns whether the other end was still there."""
    try:
        connection.sendall(orjson.dumps(message) + b"\n")
    except OSError:
        return False
    return True


class Lines:
    """The messages that come in on a connection, as its bytes arrive."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole with these bytes.

        Raises:
            ValueError: the bytes are no messages of ours.
        """
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MOST_BYTES:
            raise ValueError(f"a line of more than {MOST_BYTES} bytes")
        messages = [orjson.loads(line) for line in whole]
        if not all(isinstance(m, dict) and isinstance(m.get("say"), str) for m in messages):
            raise ValueError("a line that says nothing")
        return messages


def keep_alive(connection: socket.socket) -> None:
    """Let small messages go at once, and notice a node that vanished without closing anything."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 2), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

"""What two machines say to each other of the bytes of a slot.

Knows the greeting, the pieces and the acknowledgement; it does not know sockets' addresses, nor files.

The one that owns a slot says who it is and which slot (a line of JSON). The other says how far its copy goes
(a line of JSON). Then come pieces: the position of a file's first byte (8 bytes, little-endian), the place in
the file (8), the length (4), the bytes; each is acknowledged with one byte when it is kept. A piece without
bytes says that files which end at or before its position are needed no more.
"""

import socket
import struct
from dataclasses import dataclass
from typing import Any

import orjson

PIECE = struct.Struct("<QQI")
KEPT = b"\x06"
MOST_PIECE = 4 << 20
_MOST_LINE = 4096


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who sends, and what.

    Attributes:
        secret: of the machine that is greeted, as its registration says it.
        folder: the name of the owner's folder of slots (`slot.identity`).
        slot: the slot's name.
        disk: whether a piece is to be flushed before it is acknowledged.
    """

    secret: str
    folder: str
    slot: str
    disk: bool


@dataclass(frozen=True, slots=True)
class Held:
    """How far a copy goes: the start of its last file and that file's size; None: there is no copy yet."""

    start: int | None
    size: int = 0


def say(peer: socket.socket, line: Greeting | Held) -> None:
    """Send a line."""
    peer.sendall(orjson.dumps(line) + b"\n")


def hear(peer: socket.socket) -> dict[str, Any]:
    """Take a line.

    Raises:
        OSError: the peer is gone.
        ValueError: it is no such line.
    """
    line = b""
    while not line.endswith(b"\n"):
        part = peer.recv(1)  # what follows the line is not ours to take
        if not part:
            raise ConnectionResetError("the peer is gone")
        line += part
        if len(line) > _MOST_LINE:
            raise ValueError("a line is too long")
    told = orjson.loads(line)
    if not isinstance(told, dict):
        raise ValueError("a line is no object")
    return told


def take(peer: socket.socket, size: int) -> bytes:
    """Take so many bytes.

    Raises:
        OSError: the peer is gone.
    """
    parts, left = [], size
    while left:
        part = peer.recv(min(left, 1 << 20))
        if not part:
            raise ConnectionResetError("the peer is gone")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)

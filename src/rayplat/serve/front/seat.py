"""A replica's seat at the keeper of its machine: connections come in by it, and go back by it.

Knows the socket between the two and what is said over it; it does not know what a connection is asked. The
keeper hands a connection over as a file descriptor (SCM_RIGHTS) with one byte; so a connection has no way
through another process, and one that is idle can be handed back without its peer noticing.

| byte from the keeper | means |
|---|---|
| `c`, with a descriptor | a connection |
| `r` | hand an idle connection back: another replica has fewer |
| `q` | end: Ray Serve's own replicas are enough |

A replica says lines of JSON: `hello`, then reports, then `bye`; a line `give` has a descriptor with it.
"""

import asyncio
import contextlib
import os
import socket
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from rayplat.core.short_paths import short_path

CONNECTION, RETURN, QUIT = b"c", b"r", b"q"
_FDS = socket.CMSG_SPACE(array("i").itemsize)
LONGEST_NAME = 103
"""Bytes of a socket's name; Linux has 4 more, others not."""

_AGAIN_S = 0.1
_BYE_S = 1.0


def keeper_folder(folder: Path, port: int) -> Path:
    """Where the keeper of a port has its files, in the folder of the machine's fronts."""
    return folder / f"keeper-{port}"


def seat_path(folder: Path, port: int) -> Path:
    """Where the keeper of a port is found: in the temporary folder where a socket cannot have a long name."""
    path = keeper_folder(folder, port) / "seats"
    if len(os.fsencode(path)) <= LONGEST_NAME:
        return path
    return short_path(path, "seats-")


class Seat:
    """A seat, used on one event loop.

    Args:
        path: of the keeper's socket.
        hello: what the keeper must know of this replica, JSON values.
        taken: called with each connection, not blocking.
        asked_back: called when the keeper wants an idle connection back.
        quit_asked: called when this replica is to end.
    """

    def __init__(
        self,
        path: Path,
        hello: dict[str, Any],
        taken: Callable[[socket.socket], None],
        asked_back: Callable[[], None],
        quit_asked: Callable[[], None],
    ) -> None:
        self._path = path
        self._hello = hello
        self._taken = taken
        self._asked_back = asked_back
        self._quit_asked = quit_asked
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._over = asyncio.Event()
        self._leaving = False

    async def stay(self) -> None:
        """Sit down, and again whenever the keeper was lost, until `leave`."""
        while not self._leaving:
            if self._socket is None:
                self._sit_down()
            await asyncio.sleep(_AGAIN_S)

    async def leave(self) -> None:
        """Be given no more connections: those on their way are still taken. Idle ones may be given back."""
        self._leaving = True
        if self._say({"bye": True}):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _BYE_S)

    def report(self, told: dict[str, Any]) -> None:
        """Tell the keeper how busy this replica is."""
        self._say(told)

    def give(self, connection: socket.socket) -> bool:
        """Hand a connection to the keeper, and close it here; False where nobody takes it."""
        with connection:
            return self._say({"give": True}, connection)

    def close(self) -> None:
        """Get up."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _sit_down(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(1.0)
            made.connect(str(self._path))
            made.sendall(orjson.dumps({"hello": self._hello}) + b"\n")
            made.setblocking(False)
        except OSError:
            made.close()
            return
        self._socket = made
        self._over.clear()
        self._loop.add_reader(made.fileno(), self._hear)

    def _say(self, told: dict[str, Any], connection: socket.socket | None = None) -> bool:
        if self._socket is None:
            return False
        rights = [] if connection is None else [_rights(connection)]
        line = orjson.dumps(told) + b"\n"
        try:
            # A line is far smaller than the socket's buffer: it is sent whole, or not at all.
            return self._socket.sendmsg([line], rights) == len(line)
        except OSError:
            return False

    def _hear(self) -> None:
        """Take everything that the keeper has sent."""
        while self._socket is not None:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(1, _FDS)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, ancillary = b"", []
            for connection in descriptors(ancillary):
                self._taken(connection)
            if not data:
                self._lost()
                return
            if data == RETURN:
                self._asked_back()
            elif data == QUIT:
                self._quit_asked()

    def _lost(self) -> None:
        """The keeper says nothing more: it is gone, or this replica has said that it leaves."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            if not self._leaving:
                self._socket.close()
                self._socket = None
        self._over.set()


def descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[socket.socket]:
    """The sockets that came with a message."""
    found = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return [socket.socket(fileno=descriptor) for descriptor in found]


def hand_over(to: socket.socket, connection: socket.socket) -> bool:
    """Send a connection as the keeper does; False where the replica does not take it now."""
    try:
        return to.sendmsg([CONNECTION], [_rights(connection)]) == 1
    except OSError:
        return False


def _rights(connection: socket.socket) -> "tuple[int, int, array[int]]":
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [connection.fileno()])

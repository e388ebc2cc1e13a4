"""The controller's end of the connections: who came, who said what, who is gone.

Knows sockets and the secret that lets a member in; it does not know what is done with what is said.
"""

import contextlib
import hmac
import queue
import selectors
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rayplat.train.elastic.lines import Lines, Message, keep_alive, send

_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Said:
    """A member said something."""

    member: str
    message: Message


@dataclass(frozen=True, slots=True)
class Gone:
    """The connection to a member has closed: its process or its node is gone."""

    member: str


@dataclass(slots=True)
class _Guest:
    """A connection; `member` is empty until it has given the secret."""

    connection: socket.socket
    lines: Lines = field(default_factory=Lines)
    member: str = ""


class Door:
    """Listens for members of one run. One thread reads; any thread may tell.

    Args:
        host: the address to listen on.
        secret: what a member must give to be let in.
    """

    def __init__(self, host: str, secret: str) -> None:
        self._secret = secret
        self._listener = socket.create_server((host, 0), backlog=64)
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self._events: queue.SimpleQueue[Said | Gone] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._members: dict[str, socket.socket] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen, name="training-door", daemon=True)
        self._thread.start()

    def next(self, timeout: float) -> Said | Gone | None:
        """What happened next; None when nothing has within `timeout` s."""
        try:
            return self._events.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            return None

    def tell(self, member: str, message: Mapping[str, Any]) -> bool:
        """Say something to a member. Returns whether it is there."""
        with self._lock:
            connection = self._members.get(member)
            return connection is not None and send(connection, message)

    def close(self) -> None:
        """Close every connection: members that are still there end themselves."""
        self._wake.close()
        self._thread.join()

    def _listen(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._shut()
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._read(key.data)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # who came has gone away again
            return
        keep_alive(connection)
        self._selector.register(connection, selectors.EVENT_READ, _Guest(connection))

    def _read(self, guest: _Guest) -> None:
        try:
            data = guest.connection.recv(_READ_BYTES)
            messages = guest.lines.feed(data) if data else []
        except (OSError, ValueError):
            data, messages = b"", []
        if not data:
            self._leave(guest)
            return
        for message in messages:
            if guest.member:
                self._events.put(Said(guest.member, message))
            elif not self._let_in(guest, message):
                self._leave(guest)
                return

    def _let_in(self, guest: _Guest, message: Message) -> bool:
        given = str(message.get("secret", ""))
        if message["say"] != "hello" or not hmac.compare_digest(given.encode(), self._secret.encode()):
            return False
        guest.member = str(message["member"])
        with self._lock:
            self._members[guest.member] = guest.connection
        return True

    def _leave(self, guest: _Guest) -> None:
        self._selector.unregister(guest.connection)
        with self._lock:
            mine = self._members.get(guest.member) is guest.connection
            if mine:
                del self._members[guest.member]
        guest.connection.close()
        if mine:
            self._events.put(Gone(guest.member))

    def _shut(self) -> None:
        for key in list(self._selector.get_map().values()):
            with contextlib.suppress(OSError):
                key.fileobj.close()  # type: ignore[union-attr]  # all of them are sockets
        self._selector.close()

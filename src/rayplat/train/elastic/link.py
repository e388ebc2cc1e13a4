"""A member's end of the connection to its controller.

Knows what the controller says while the member trains; it does not know how training is done.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rayplat.train.elastic.facts import Generation
from rayplat.train.elastic.lines import Lines, Message, keep_alive, send
from rayplat.train.elastic.standing import standing

_READ_BYTES = 1 << 16
_TELL_EVERY_S = 0.2
_CONNECT_WITHIN_S = 20.0


class ControllerGoneError(ConnectionError):
    """The controller's end has closed: the run is over for this member."""


class Link:
    """The connection of one member, made by the thread that trains. Another one reads, and answers whether
    the process is alive and where the first one stands.

    Args:
        door: host:port of the controller.
        secret: what lets this member in.
        member: its id.
    """

    def __init__(self, door: str, secret: str, member: str) -> None:
        host, _, port = door.rpartition(":")
        self._connection = socket.create_connection((host, int(port)), timeout=_CONNECT_WITHIN_S)
        self._connection.settimeout(None)
        keep_alive(self._connection)
        self._sending = threading.Lock()
        self._generations: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._last_told = 0.0
        self._thread = threading.get_ident()
        self.regroup = threading.Event()
        """Set when the current generation is to be left at the end of the step."""
        self.stop = threading.Event()
        """Set when the run is to stop: with a checkpoint, then no more."""
        self.deadline: float | None = None
        """When the node is to go, s since the epoch, 0 where nobody knows when; None while it stays."""
        self.say("hello", secret=secret, member=member)
        threading.Thread(target=self._read, name="training-link", daemon=True).start()

    def say(self, what: str, **more: Any) -> None:
        """Tell the controller something; that it is gone is noticed by `next_generation`."""
        with self._sending:
            send(self._connection, {"say": what, **more})

    def say_step(self, step: int, spent: Callable[[], Mapping[str, int]]) -> None:
        """Tell how far this member is and what its time was spent on, a few times a second at most."""
        now = time.monotonic()
        if now - self._last_told >= _TELL_EVERY_S:
            self._last_told = now
            self.say("step", step=step, spent=spent())

    def next_generation(self) -> Generation:
        """Wait for the next generation that this member is in.

        Raises:
            ControllerGoneError: there will be none.
        """
        generation = self._generations.get()
        if generation is None:
            raise ControllerGoneError("the controller of the run has closed the connection")
        return generation

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self) -> None:
        lines = Lines()
        with contextlib.suppress(OSError, ValueError):
            while data := self._connection.recv(_READ_BYTES):
                for message in lines.feed(data):
                    self._hear(message)
        self.regroup.set()
        self._generations.put(None)

    def _hear(self, message: Message) -> None:
        match message["say"]:
            case "generation":
                self.regroup.clear()
                self._generations.put(Generation.of_message(message))
            case "regroup":
                self.regroup.set()
            case "stop":
                self.stop.set()
            case "save":
                self.deadline = float(message.get("by", 0.0))
            case "ping":
                self.say("pong", stands=standing(self._thread))

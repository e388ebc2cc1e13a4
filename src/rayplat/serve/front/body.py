"""Bodies that are sent while they are made: from a thread, through a bounded buffer, onto an event loop.

Knows backpressure and both ends' going away; it does not know what is sent, nor how it looks on the wire.
Whoever makes parts waits while too much of them is not sent yet: a slow reader costs a buffer, and nobody's
time but his own.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

MOST_AHEAD = 256 * 1024
"""So many bytes are made ahead of what the reader has taken."""


class Outlet(Protocol):
    """Where a body goes; used on its loop."""

    def send(self, data: bytes) -> bool:
        """Send bytes; whether there is room for more now."""

    def end(self, *, whole: bool = True) -> None:
        """Nothing more comes.

        Args:
            whole: else the peer shall see that the body has broken off.
        """


class Body(Protocol):
    """A body that comes in parts; used on the loop.

    Attributes:
        after: called when nothing more is sent, whatever the reason.
    """

    after: list[Callable[[], None]]

    def begin(self, outlet: Outlet) -> None:
        """Send from now on."""

    def go_on(self) -> None:
        """There is room again."""

    def gone(self) -> None:
        """The reader has gone away."""


class GoneError(Exception):
    """Nobody reads any more."""


class Pipe:
    """A body that one thread makes; see the module.

    Args:
        loop: its reader's.
        left: called on the loop when the reader goes away before the end.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, left: Callable[[], None], most_ahead: int = MOST_AHEAD
    ) -> None:
        self.after: list[Callable[[], None]] = []
        self._loop = loop
        self._left = left
        self._most = most_ahead
        self._changed = threading.Condition()
        self._ready: deque[bytes] = deque()
        self._ahead = 0
        self._closed = False
        self._over = False
        self._full = False
        self._called = False
        self._outlet: Outlet | None = None

    @property
    def closed(self) -> bool:
        """Whether further parts are wanted by nobody."""
        return self._closed

    def put(self, data: bytes) -> None:
        """Send bytes, from the thread that makes them; waits for room.

        Raises:
            GoneError: the body is over, or its reader has gone away.
        """
        with self._changed:
            while self._ahead >= self._most and not self._closed:
                self._changed.wait()
            if self._closed:
                raise GoneError
            self._append(data)
            if self._called:
                return
            self._called = True
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its connections with it
            self._loop.call_soon_threadsafe(self._flush)

    def stop(self) -> None:
        """Take nothing more from the thread; what was taken is sent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def finish(self, last: bytes) -> None:
        """Send the last bytes, and end; on the loop."""
        self.stop()
        with self._changed:
            self._append(last)
        self._over = True
        self._flush()

    def begin(self, outlet: Outlet) -> None:
        """See `Body`."""
        self._outlet = outlet
        self._flush()

    def go_on(self) -> None:
        """See `Body`."""
        self._full = False
        self._flush()

    def gone(self) -> None:
        """See `Body`."""
        self._outlet = None
        with self._changed:
            over, self._closed = self._over, True
            self._ready.clear()
            self._changed.notify_all()
        if not over:
            self._left()
        self._ended()

    def _flush(self) -> None:
        outlet = self._outlet
        while outlet is not None and not self._full:
            with self._changed:
                self._called = False
                if not self._ready:
                    break
                data = b"".join(self._ready)
                self._ready.clear()
                self._ahead = 0
                self._changed.notify_all()
            self._full = not outlet.send(data)
        if outlet is not None and self._over and not self._ready:
            self._outlet = None
            outlet.end()
            self._ended()

    def _append(self, data: bytes) -> None:
        self._ready.append(data)
        self._ahead += len(data)

    def _ended(self) -> None:
        told, self.after = self.after, []
        for one in told:
            one()

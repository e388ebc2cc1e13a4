"""One connection of the front: requests taken from its bytes, answered in their order.

Knows buffers, limits of size and time, and backpressure; it does not know what is asked. One request of a
connection is on its way at a time: those behind it wait in the buffer, and when too many bytes do, the peer
is not read from.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from rayplat.features.server.faults import RefusedError
from rayplat.features.server.wire import CONTINUE, MAX_HEAD_BYTES
from rayplat.serve.front.body import Body
from rayplat.serve.front.chunked import LAST, chunk
from rayplat.serve.front.head import Head, Heads
from rayplat.serve.front.reply import Reply, reply_to
from rayplat.serve.request import MAX_BODY_BYTES

STALLED_S = 10.0
"""How long the rest of a request that was begun may take to arrive, and an answer to be taken."""

_READ_AHEAD = MAX_HEAD_BYTES + MAX_BODY_BYTES

Answer = Callable[[Head, bytes, Callable[[Reply], None]], None]
"""A request, and who is told its reply: once, on the loop, at once or later."""


@dataclass(slots=True)
class Shared:
    """What the connections of one listener have in common."""

    answer: Answer
    heads: Heads = field(default_factory=lambda: Heads(MAX_BODY_BYTES))
    open: "set[Connection]" = field(default_factory=set)
    draining: bool = False

    def sweep(self, now: float, stalled_s: float = STALLED_S) -> None:
        """Drop connections whose peer sends a request, or takes an answer, too slowly.

        Args:
            now: of `time.monotonic`, s.
        """
        for one in list(self.open):
            if one.begun is not None and now - one.begun > stalled_s and (one.streams or not one.busy):
                one.drop()


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._parts: list[bytes] = []
        self._arrived = 0
        self._wanted = 0
        self._full = False
        self._going = False
        self._continued = False
        self._deaf = False
        self._body: Body | None = None
        self._last = False
        self.busy = False
        self.begun: float | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is asked and nothing is on its way."""
        return not (self.busy or self._held or self._parts)

    @property
    def streams(self) -> bool:
        """Whether an answer is being sent that is not made yet."""
        return self._body is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._shared.open.add(self)
        self.begun = time.monotonic()  # who connects and says nothing is dropped too, once

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone."""
        self._transport = None
        self._held, self._parts = b"", []
        self._shared.open.discard(self)
        body, self._body = self._body, None
        if body is not None:
            body.gone()

    def pause_writing(self) -> None:
        """The peer takes answers more slowly than they are made: make no more."""
        self._full = True
        self.begun = time.monotonic()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._full = False
        self.begun = None
        if self._body is not None:
            self._body.go_on()
        else:
            self._go_on()

    def data_received(self, data: bytes) -> None:
        """More of a request has arrived."""
        if self._deaf:
            return
        if self._held or self._parts:
            # Parts are joined once: a large body that arrives in small ones is not copied with each.
            self._parts.append(data)
            self._arrived += len(data)
        else:
            self._held = data
        size = len(self._held) + self._arrived
        if self.busy or self._full:
            if size > _READ_AHEAD and self._transport is not None:
                self._transport.pause_reading()
        elif size >= self._wanted:
            self._go_on()

    def close(self) -> None:
        """Close after what was answered has been sent."""
        if self._transport is not None:
            self._transport.close()

    def taken_out(self) -> "socket.socket | None":
        """The peer's socket, out of this connection, which is over; None where something is on its way."""
        transport = self._transport
        if transport is None or not self.idle or self._deaf or transport.get_write_buffer_size():
            return None
        transport.pause_reading()
        taken = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        transport.abort()  # closes its descriptor; the peer does not notice, as there is another one
        self._transport = None
        self._shared.open.discard(self)
        return taken

    def drop(self) -> None:
        """Close now, whatever was not sent."""
        if self._transport is not None:
            self._transport.abort()

    def _go_on(self) -> None:
        """Answer what has arrived in whole."""
        if self._going:
            return
        self._going = True
        if self._parts:
            self._held, self._parts, self._arrived = b"".join((self._held, *self._parts)), [], 0
        try:
            while self._held and not self.busy and not self._full and self._transport is not None:
                if not self._one():
                    break
        except RefusedError as refusal:
            # Where the next request begins is not known any more.
            self._refuse(reply_to(refusal))
        finally:
            self._going = False
        if not self._full and not self._deaf:
            self.begun = (self.begun or time.monotonic()) if self._held and not self.busy else None

    def _one(self) -> bool:
        """Answer the first request; False where it has not arrived in whole."""
        data = self._held
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES + 4) + 4
        if end < 4:
            if len(data) > MAX_HEAD_BYTES:
                raise RefusedError(431, f"the head has more than {MAX_HEAD_BYTES} bytes")
            return False
        head = self._shared.heads.read(data[:end])
        whole = end + head.length
        if len(data) < whole:
            self._wanted = whole
            if head.expects and not self._continued and self._transport is not None:
                self._continued = True
                self._transport.write(CONTINUE)
            return False
        self._wanted, self._continued, self.begun = 0, False, None
        self._held = data[whole:]
        self.busy = True
        self._shared.answer(head, data[end:whole], lambda reply: self._answered(head, reply))
        return True

    def send(self, data: bytes) -> bool:
        """See `body.Outlet`."""
        if self._transport is None or self._body is None:
            return False
        self._transport.write(chunk(data))
        return not self._full

    def end(self, *, whole: bool = True) -> None:
        """See `body.Outlet`."""
        self._body, self.busy = None, False
        if self._transport is None:
            return
        if not whole:
            self._transport.abort()
            return
        self._transport.write(LAST)
        if self._last or self._shared.draining:
            self._transport.close()
        else:
            self._transport.resume_reading()
            self._go_on()

    def _begin(self, head: Head, reply: Reply, body: Body) -> None:
        """Send an answer while it is made."""
        if self._transport is None:
            body.gone()
            return
        self._body, self._last = body, not head.keep_alive or self._shared.draining
        self._transport.write(reply.wire(close=self._last))
        body.begin(self)

    def _answered(self, head: Head, reply: Reply) -> None:
        if reply.stream is not None:
            self._begin(head, reply, reply.stream)
            return
        self.busy = False
        if self._transport is None:
            return
        close = not head.keep_alive or self._shared.draining
        self._send(reply, close=close, bodiless=head.method == "HEAD")
        if (self._held or self._parts) and not close:
            self._transport.resume_reading()
            self._go_on()

    def _refuse(self, reply: Reply) -> None:
        """Answer what cannot be read, and read no further.

        What the peer still sends is thrown away until it closes or is swept: were the connection closed at
        once, the peer's unread bytes would make the kernel reset it, and the answer be lost.
        """
        self._held, self._parts, self._deaf = b"", [], True
        self.begun = time.monotonic()
        if self._transport is not None:
            self._transport.write(reply.wire(close=True))
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def _send(self, reply: Reply, *, close: bool, bodiless: bool = False) -> None:
        if self._transport is not None:
            self._transport.write(reply.wire(close=close, bodiless=bodiless))
            if close:
                self._transport.close()

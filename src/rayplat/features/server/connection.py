"""One connection: requests taken from its bytes, one after the other, and answered in their order.

Knows buffers, limits of time and size, and backpressure; it does not know what is asked.

What can be answered from memory is answered where the bytes arrive. The rest is answered by a thread;
until then the connection's further requests wait, and when too many bytes do, the peer is not read from.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from rayplat.core.telemetry import get_logger
from rayplat.features.server.awake import Awake
from rayplat.features.server.faults import PROBLEM, RefusedError, answer_to, headers_of
from rayplat.features.server.outbox import Outbox, Outgoing
from rayplat.features.server.tally import Tally
from rayplat.features.server.wire import (
    CONTINUE,
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    Head,
    Heads,
    heading,
    written,
)

if TYPE_CHECKING:
    from rayplat.features.parity.journal import Entry

STALLED_S = 30.0
"""How long the rest of a request that was begun may take to arrive."""

JSON = b"application/json"
_READ_AHEAD = MAX_HEAD_BYTES + MAX_BODY_BYTES
_MOST_UNSENT = 64


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered.

    Attributes:
        entries: what the log must have before it is sent.
        rest: follows `body`; large pieces are not put together before they are sent.
    """

    body: bytes
    kind: bytes = JSON
    status: int = 200
    entities: int = 0
    entries: "Sequence[Entry]" = ()
    rest: Sequence[bytes] = ()


class Handler(Protocol):
    """Answers requests of one route."""

    @property
    def route(self) -> str:
        """Its name, for metrics."""

    def at_once(self, head: Head, body: bytes) -> Reply | None:
        """The answer where it takes microseconds; None where it must be left to `slowly`."""

    def slowly(self, head: Head, body: bytes) -> Reply:
        """The answer, on another thread."""


@dataclass(slots=True)
class Shared:
    """What the connections of one server have in common.

    Attributes:
        outbox: where answers go to be logged and sent; None: they are sent at once, and none is logged.
    """

    find: Callable[[Head], Handler]
    pool: Executor
    outbox: Outbox | None = None
    tally: Tally = field(default_factory=Tally)
    heads: Heads = field(default_factory=Heads)
    open: "set[Connection]" = field(default_factory=set)
    awake: Awake = field(default_factory=Awake)
    draining: bool = False


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._number = -1
        self._held = b""
        self._wanted = 0
        self._unsent = 0
        self.busy = False
        self._full = False
        self._continued = False
        self.begun: float | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is asked and nothing is on its way."""
        return not (self.busy or self._held or self._unsent)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._number = transport.get_extra_info("socket").fileno()
        self._shared.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone."""
        self._transport = None
        self._held = b""
        self._shared.open.discard(self)

    def pause_writing(self) -> None:
        """The peer takes answers more slowly than they are made: make no more."""
        self._full = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._full = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """More of a request has arrived."""
        self._shared.awake.arrived()
        if not self._held and not self.busy and not self._full:
            self._held = data
        else:
            self._held += data
            if self.busy or self._full:
                if len(self._held) > _READ_AHEAD and self._transport is not None:
                    self._transport.pause_reading()
                return
        if len(self._held) >= self._wanted:
            self._go_on()

    def close(self) -> None:
        """Close after what was answered has been sent."""
        if self._transport is not None:
            self._transport.close()

    def _go_on(self) -> None:
        """Answer what has arrived in whole."""
        try:
            while self._held and not self.busy and not self._full and self._transport is not None:
                if self._unsent >= _MOST_UNSENT or not self._one():
                    break
        except RefusedError as refusal:
            # Where the next request begins is not known any more.
            self._held = b""
            status, body = answer_to(refusal)
            self._post(Outgoing("none", status, PROBLEM, body, time.perf_counter_ns(), close=True))
        self.begun = (self.begun or time.monotonic()) if self._held else None

    def _one(self) -> bool:
        """Answer the first request; False where it has not arrived in whole."""
        data = self._held
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > MAX_HEAD_BYTES:
                raise RefusedError(431, f"the head has more than {MAX_HEAD_BYTES} bytes")
            return False
        if end > MAX_HEAD_BYTES:
            raise RefusedError(431, f"the head has more than {MAX_HEAD_BYTES} bytes")
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
        self._answer(head, data[end:whole])
        return True

    def _answer(self, head: Head, body: bytes) -> None:
        begun = time.perf_counter_ns()
        route = "none"
        try:
            handler = self._shared.find(head)
            route = handler.route
            reply = handler.at_once(head, body)
        # The last door: whatever it is, the caller gets a problem document and the log gets the trace.
        except Exception as error:
            self._fail(route, error, head, begun)
            return
        if reply is not None:
            self._reply(route, reply, head, begun)
            return
        self.busy = True
        future = self._loop.run_in_executor(self._shared.pool, handler.slowly, head, body)
        future.add_done_callback(lambda done: self._answered(route, done, head, begun))

    def _answered(self, route: str, done: "asyncio.Future[Reply]", head: Head, begun: int) -> None:
        self.busy = False
        if self._transport is None or done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._reply(route, done.result(), head, begun)
        else:
            self._fail(route, error, head, begun)
        if self._transport is not None:
            self._transport.resume_reading()
        self._go_on()

    def _reply(self, route: str, reply: Reply, head: Head, begun: int) -> None:
        closing = not head.keep_alive or self._shared.draining
        body, rest = (b"", ()) if head.method == "HEAD" else (reply.body, reply.rest)
        entities, entries = reply.entities, reply.entries
        self._post(Outgoing(route, reply.status, reply.kind, body, begun, closing, entities, entries, rest))

    def _fail(self, route: str, error: BaseException, head: Head, begun: int) -> None:
        status, body = answer_to(error)
        if status >= 500:
            get_logger("features.server").error("a request failed", status=status, exc_info=error)
        closing = not head.keep_alive or self._shared.draining
        self._post(Outgoing(route, status, PROBLEM, body, begun, closing, headers=headers_of(error)))

    def _post(self, out: Outgoing) -> None:
        outbox = self._shared.outbox
        if outbox is None:
            self.send(out)
        else:
            self._unsent += 1
            outbox.add(self, out, alone=not self._held and len(self._shared.open) == 1)

    def send(self, out: Outgoing) -> None:
        """See `Sender`."""
        transport = self._transport
        if transport is not None:
            size = len(out.body) + sum(map(len, out.rest))
            first = heading(out.status, out.kind, size, close=out.close, headers=out.headers) + out.body
            left = [first, *out.rest]
            # Nothing waits before it: the system takes it now, not at the end of the loop's turn.
            if transport.get_write_buffer_size() == 0 and not transport.is_closing():
                left = written(self._number, left)
            if left:
                transport.write(b"".join(left))
            if out.close:
                self.close()
        self._shared.tally.add(out.route, out.status, time.perf_counter_ns() - out.begun, out.entities)
        self._shared.awake.answered(self._loop)

    def sent(self) -> None:
        """See `Sender`."""
        self._unsent = 0
        if self._held:
            self._go_on()

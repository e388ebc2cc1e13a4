"""The feature server as an ASGI application, for servers that bring their own sockets, such as Ray Serve.

Knows how ASGI's messages become requests and answers; routes and answers are those of the plain server.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from rayplat.core.project.project import Project
from rayplat.core.telemetry import get_logger
from rayplat.features.online.store import OnlineStore
from rayplat.features.server.connection import Reply, Shared
from rayplat.features.server.faults import PROBLEM, RefusedError, answer_to, headers_of
from rayplat.features.server.outbox import Outbox
from rayplat.features.server.process import answering
from rayplat.features.server.wire import BINARY, MAX_BODY_BYTES, Head

if TYPE_CHECKING:
    from rayplat.features.parity.log import FeatureLog

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_THREADS = 4
_ROLL_S = 5.0
_ACCEPTS_BINARY = BINARY.encode()


class FeaturesApp:
    """Answers features over ASGI.

    Args:
        project: whose views are served.
        online: the store.
        local: whether the store answers in microseconds, with no network on the way.
        log: where every vector is written before it is answered; None: nowhere. It is closed at the end.
    """

    def __init__(
        self, project: Project, online: OnlineStore, *, local: bool, log: "FeatureLog | None" = None
    ) -> None:
        pool = ThreadPoolExecutor(_THREADS, "features")
        self._shared: Shared = answering(project, online, pool, local=local, log=log)
        self._log = log
        self._rolling: asyncio.Task[None] | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or the start and the end of the server."""
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await asyncio.to_thread(self._close)
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    def _close(self) -> None:
        """Commit what was logged."""
        if self._shared.outbox is not None and self._log is not None:
            self._shared.outbox.journal.roll()
            self._log.close()

    def _record(self, reply: Reply) -> None:
        """Log an answer of the fast path."""
        outbox = self._shared.outbox
        if outbox is None or not reply.entries:
            return
        if self._rolling is None:
            self._rolling = asyncio.create_task(_roll(outbox))
        outbox.journal.admit(reply.entries)
        outbox.journal.write(reply.entries)

    async def _http(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        begun = time.perf_counter_ns()
        route, headers = "none", []
        try:
            head = _head(scope)
            handler = self._shared.find(head)
            route = handler.route
            body = await _body(receive)
            reply = handler.at_once(head, body)
            if reply is None:
                loop = asyncio.get_running_loop()
                reply = await loop.run_in_executor(self._shared.pool, handler.slowly, head, body)
            self._record(reply)
        # The last door: whatever it is, the caller gets a problem document and the log gets the trace.
        except Exception as error:
            status, told = answer_to(error)
            reply = Reply(told, PROBLEM, status)
            headers += headers_of(error)
            if status >= 500 and not headers:  # of a refusal the log has told once
                get_logger("features.server").error("a request failed", status=status, exc_info=error)
        whole = b"".join([reply.body, *reply.rest])
        headers += [(b"content-type", reply.kind), (b"content-length", b"%d" % len(whole))]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else whole})
        self._shared.tally.add(route, reply.status, time.perf_counter_ns() - begun, reply.entities)


async def _roll(outbox: Outbox) -> None:
    while True:
        await asyncio.sleep(_ROLL_S)
        outbox.journal.roll_if_due()


def _head(scope: MutableMapping[str, Any]) -> Head:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    binary = any(name == b"accept" and _ACCEPTS_BINARY in value for name, value in scope["headers"])
    return Head(scope["method"], path or "/", 0, keep_alive=True, binary=binary, expects=False)


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise RefusedError(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    return body

"""The feature server as an ASGI application, for servers that bring their own sockets, such as Ray Serve.

Knows how ASGI's messages become requests and answers; routes and answers are those of the plain server.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rayplat.core.project.project import Project
from rayplat.core.telemetry import get_logger
from rayplat.features.online.store import OnlineStore
from rayplat.features.server.connection import Reply, Shared
from rayplat.features.server.faults import PROBLEM, RefusedError, answer_to
from rayplat.features.server.process import answering
from rayplat.features.server.wire import BINARY, MAX_BODY_BYTES, Head

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_THREADS = 4
_ACCEPTS_BINARY = BINARY.encode()


class FeaturesApp:
    """Answers features over ASGI.

    Args:
        project: whose views are served.
        online: the store.
        local: whether the store answers in microseconds, with no network on the way.
    """

    def __init__(self, project: Project, online: OnlineStore, *, local: bool) -> None:
        pool = ThreadPoolExecutor(_THREADS, "features")
        self._shared: Shared = answering(project, online, pool, local=local)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or the start and the end of the server."""
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

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
        # The last door: whatever it is, the caller gets a problem document and the log gets the trace.
        except Exception as error:
            status, told = answer_to(error)
            reply = Reply(told, PROBLEM, status)
            if status >= 500:
                get_logger("features.server").error("a request failed", status=status, exc_info=error)
            if isinstance(error, RefusedError) and error.allow:
                headers.append((b"allow", error.allow.encode()))
        headers += [(b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body))]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})
        self._shared.tally.add(route, reply.status, time.perf_counter_ns() - begun, reply.entities)


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

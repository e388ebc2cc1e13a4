"""Neighbours: the replicas of other endpoints on this machine, and requests passed on to them.

Knows a folder with a file for each replica, which holds its private port; it does not know what is asked. The
kernel gives a connection to any replica that listens on the public port, so a replica must pass on what
another endpoint is asked. A file whose replica is gone is found by the refused connection, and removed.
"""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

from rayplat.core.settings import Settings
from rayplat.features.server.faults import PROBLEM, RefusedError
from rayplat.serve.front.chunked import Relay
from rayplat.serve.front.head import ARROW, Head
from rayplat.serve.front.reply import Reply, reply_to

# A name that is no name of an endpoint is never a part of a file's name.
_PATH = re.compile(r"/(?:v1/endpoints|endpoints|v2/models)/([a-z][a-z0-9_]{0,99})(?:/.*)?")
_ANSWERED_WITHIN_S = 30.0
_MOST_KEPT = 64
_LOOPBACK = "127.0.0.1"
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def front_folder(settings: Settings) -> Path:
    """The folder of this machine's fronts."""
    return settings.home / "front" / socket.gethostname()


class Neighbours:
    """The replicas that one replica may pass requests on to.

    Args:
        folder: of the files, on this machine's disk.
        keeper: the folder of the machine's keeper, which holds requests of endpoints without a replica.
    """

    def __init__(self, folder: Path, keeper: Path | None = None) -> None:
        self._folder = folder
        self._keeper = keeper
        self._own: Path | None = None
        self._kept: dict[Path, list[_Streams]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = 0

    def tell(self, endpoint: str, port: int) -> None:
        """Let neighbours know where this replica answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        own = self._folder / f"{endpoint}.{os.getpid()}-{port}"
        new = own.with_name(f".{own.name}")
        new.write_text(str(port))
        new.replace(own)
        self._own = own

    def withdraw(self) -> None:
        """Be asked by neighbours no more."""
        if self._own is not None:
            self._own.unlink(missing_ok=True)
        for streams in self._kept.values():
            for _, writer in streams:
                writer.close()
        self._kept.clear()

    def ask(self, head: Head, body: bytes, told: Callable[[Reply], None]) -> None:
        """Pass a request on; see `connection.Answer`."""
        found = _PATH.fullmatch(head.path)
        if found is None:
            raise RefusedError(404, f"there is nothing at {head.path[:100]!r}")
        task = asyncio.get_running_loop().create_task(self._ask(found[1], head, body, told))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, endpoint: str, head: Head, body: bytes, told: Callable[[Reply], None]) -> None:
        try:
            told(await self._passed(endpoint, head, body))
        # Whatever it is must reach who waits.
        except Exception as error:
            told(reply_to(error))

    async def _passed(self, endpoint: str, head: Head, body: bytes) -> Reply:
        files = sorted(self._folder.glob(f"{endpoint}.*"))
        if not files and self._keeper is not None and (self._keeper / f"{endpoint}.kept").exists():
            return await asyncio.wait_for(self._one(self._keeper / "port", head, body), _ANSWERED_WITHIN_S)
        if not files:
            raise RefusedError(404, f"no endpoint {endpoint!r} answers on this machine")
        self._turn += 1
        for place in range(len(files)):
            file = files[(self._turn + place) % len(files)]
            try:
                return await asyncio.wait_for(self._one(file, head, body), _ANSWERED_WITHIN_S)
            except ConnectionRefusedError:
                file.unlink(missing_ok=True)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                continue  # it has ended meanwhile: a prediction may be asked for again
        raise RefusedError(503, f"the endpoint {endpoint!r} cannot answer now: ask again in a moment")

    async def _one(self, file: Path, head: Head, body: bytes) -> Reply:
        kept = self._kept.setdefault(file, [])
        if kept:
            reader, writer = kept.pop()
        else:
            reader, writer = await asyncio.open_connection(_LOOPBACK, int(file.read_text()))
        try:
            writer.write(_request(head, body))
            reply, stays = await _reply(reader, writer)
        except BaseException:
            writer.close()
            raise
        if reply.stream is not None:
            return reply  # its connection is closed at its end
        if stays and len(kept) < _MOST_KEPT:
            kept.append((reader, writer))
        else:
            writer.close()
        return reply


def _request(head: Head, body: bytes) -> bytes:
    method = "GET" if head.method == "HEAD" else head.method
    lines = [f"{method} {head.path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    if head.trace_id is not None:
        lines.append(f"traceparent: 00-{head.trace_id}-{'0' * 15}1-01")
    if head.key is not None:
        lines.append(f"idempotency-key: {head.key}")
    if head.model is not None:
        lines.append(f"rayplat-model: {head.model}")
    if head.arrow:
        lines.append(f"content-type: {ARROW.decode()}")
    if head.accepts.stream is not None:
        plain = ", application/json;q=0.5" if head.accepts.plain else ""
        lines.append(f"accept: {head.accepts.stream.decode()}{plain}")
    text = "\r\n".join(lines).encode()
    authorization = b"" if head.authorization is None else b"\r\nauthorization: " + head.authorization
    return b"".join((text, authorization, b"\r\n\r\n", body))


async def _reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[Reply, bool]:
    """A neighbour's reply, and whether its connection stays open."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(b": ")
        headers[name] = value
    stream = Relay(reader, writer) if headers.pop(b"transfer-encoding", b"") == b"chunked" else None
    body = b"" if stream is not None else await reader.readexactly(int(headers.pop(b"content-length")))
    stays = headers.pop(b"connection", b"") != b"close"
    kind = headers.pop(b"content-type", PROBLEM)
    more = b"".join(name + b": " + value + b"\r\n" for name, value in headers.items())
    with contextlib.suppress(IndexError):
        return Reply(body, int(first.split(b" ")[1]), kind, more, stream), stays
    raise ValueError("no reply")

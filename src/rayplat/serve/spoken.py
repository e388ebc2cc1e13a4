"""A body that is made while it is sent, over ASGI.

Knows ASGI's messages and its backpressure; it does not know what is sent.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rayplat.serve.front.body import Body

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Queue:
    """An outlet that holds one piece at a time; see `body.Outlet`."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    def send(self, data: bytes) -> bool:
        self.pieces.put_nowait(data)
        return False

    def end(self, *, whole: bool = True) -> None:
        self.pieces.put_nowait(None)


async def spoken(body: Body, receive: Receive, send: Send) -> None:
    """Send a body whose head has been sent, until it ends or its reader goes away."""
    outlet = _Queue()
    leaving = asyncio.ensure_future(_left(receive))
    body.begin(outlet)
    try:
        while True:
            following = asyncio.ensure_future(outlet.pieces.get())
            await asyncio.wait({following, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                body.gone()
                return
            data = following.result()
            await send({"type": "http.response.body", "body": data or b"", "more_body": data is not None})
            if data is None:
                return
            body.go_on()
    except BaseException:
        body.gone()
        raise
    finally:
        leaving.cancel()


async def _left(receive: Receive) -> None:
    """Until the reader has gone away."""
    while (await receive())["type"] != "http.disconnect":
        continue

"""Bodies of unknown length on a connection of HTTP/1.1 (RFC 9112, section 7.1).

Knows how chunks are written and read; it does not know what they hold.
"""

import asyncio
import contextlib
from collections.abc import Callable

from rayplat.serve.front.body import Outlet

LAST = b"0\r\n\r\n"
_MOST_LINE = 20


def chunk(data: bytes) -> bytes:
    """Bytes, not none, as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Relay:
    """A body that arrives in chunks from a neighbour, passed on as it comes; used on one loop.

    A neighbour that breaks off breaks the answer off here too.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.after: list[Callable[[], None]] = []
        self._reader = reader
        self._writer = writer
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self, outlet: Outlet) -> None:
        """See `Body`."""
        self._task = asyncio.get_running_loop().create_task(self._pass_on(outlet))

    def go_on(self) -> None:
        """See `Body`."""
        self._room.set()

    def gone(self) -> None:
        """See `Body`; the neighbour sees its own reader go, and stops."""
        if self._task is None:
            self._over()
        else:
            self._task.cancel()

    async def _pass_on(self, outlet: Outlet) -> None:
        whole = False
        try:
            while data := await self._chunk():
                self._room.clear()
                if not outlet.send(data):
                    await self._room.wait()
            whole = True
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            whole = False
        finally:
            self._over()
        outlet.end(whole=whole)

    async def _chunk(self) -> bytes:
        line = await self._reader.readuntil(b"\r\n")
        if len(line) > _MOST_LINE:
            raise ValueError("no chunk")
        size = int(line, 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    def _over(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()
        told, self.after = self.after, []
        for one in told:
            one()

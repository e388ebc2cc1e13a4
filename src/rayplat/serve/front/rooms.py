"""The rooms of a front: for each choice that is loaded, what answers its requests on the front's loop.

Knows which room a request is for, and that it is kept while it answers; it does not know how a choice is
loaded (`multiplex.pool`), nor how a room answers.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from rayplat.features.server.faults import RefusedError
from rayplat.serve.admission.decision import Admitted
from rayplat.serve.front.head import Head
from rayplat.serve.front.reply import Reply
from rayplat.serve.multiplex.choices import Choice
from rayplat.serve.multiplex.chosen import Chosen
from rayplat.serve.multiplex.pool import Lease, Pool

Told = Callable[[Reply], None]
_NAME = r"([A-Za-z0-9_]{1,100})"


class Room(Protocol):
    """Answers requests that were let in."""

    def admitted(self, head: Head, body: bytes, told: Told, by: Admitted, *, infer: bool) -> None:
        """Answer one."""

    def close(self) -> None:
        """No request is on its way here, and none will come."""


class Rooms:
    """The rooms of one loop; used on it only.

    Args:
        endpoint: the name of the endpoint.
        choices: what may be asked for, by name.
        make: makes the room of a choice.
    """

    def __init__(
        self,
        endpoint: str,
        choices: Mapping[str, Choice],
        pool: Pool[Chosen],
        make: Callable[[Chosen, str], Room],
    ) -> None:
        self._endpoint = endpoint
        self._choices = choices
        self._pool = pool
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._rooms: dict[Chosen, Room] = {}
        self._path = re.compile(
            rf"/(?:v1/endpoints/{endpoint}/models/{_NAME}/predict|v2/models/{endpoint}/versions/{_NAME}/infer)"
        )

    def asked(self, path: str) -> tuple[str, bool] | None:
        """Which choice a path names, and whether it is of the inference protocol; None: none."""
        found = self._path.fullmatch(path)
        if found is None:
            return None
        return (found[1], False) if found[1] is not None else (found[2], True)

    def check(self, name: str) -> None:
        """Refuse a name that is none.

        Raises:
            RefusedError: 404.
        """
        if name not in self._choices:
            raise RefusedError(404, f"{self._endpoint!r} has no model or version {name[:100]!r}")

    def told(self) -> dict[str, dict[str, object]]:
        """Every choice: model, version, and whether it is loaded here."""
        loaded = set(self._pool.loaded)
        return {
            name: {"model": one.model, "version": one.version, "loaded": name in loaded}
            for name, one in self._choices.items()
        }

    def enter(
        self, name: str, work: Callable[[Room, Told], None], told: Told, failed: Callable[[Exception], None]
    ) -> None:
        """Let a room answer; it is loaded first where it is not, and kept until it has told its reply.

        Args:
            work: is given the room, and whom it tells.
            failed: hears why there is no room.
        """

        def found(lease: Lease[Chosen] | Exception) -> None:
            if isinstance(lease, Exception):
                failed(lease)
                return

            def answered(reply: Reply) -> None:
                if reply.stream is not None:
                    reply.stream.after.append(lease.done)
                else:
                    lease.done()
                told(reply)

            try:
                work(self._room(lease.value, name), answered)
            # Whatever it is must reach who waits, and the room be given back.
            except Exception as error:
                lease.done()
                failed(error)

        def heard(lease: Lease[Chosen] | Exception) -> None:
            if threading.get_ident() == self._thread:
                found(lease)
                return
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its connections with it
                self._loop.call_soon_threadsafe(found, lease)

        self._pool.ask(name, heard)

    def close(self) -> None:
        """Close every room."""
        for room in self._rooms.values():
            room.close()
        self._rooms.clear()

    def _room(self, chosen: Chosen, name: str) -> Room:
        room = self._rooms.get(chosen)
        if room is None:
            room = self._rooms[chosen] = self._make(chosen, name)
            chosen.closing.append(lambda: self._left(chosen))
        return room

    def _left(self, chosen: Chosen) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._close, chosen)

    def _close(self, chosen: Chosen) -> None:
        room = self._rooms.pop(chosen, None)
        if room is not None:
            room.close()


def no_room(name: str, own: str) -> RefusedError:
    """What is told where an endpoint answers with one model only."""
    return RefusedError(404, f"{own!r} answers with one model only, not with {name[:100]!r}")

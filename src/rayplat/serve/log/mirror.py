"""The mirror: what is written to a slot is sent to another machine, which keeps a copy.

Knows how a copy is brought up to the slot and what happens when the machine that keeps it is lost; it does
not know how a copy is kept (`copies`), nor who waits for it.

When a copy cannot be reached another machine is asked, and it is sent all that the slot's files hold before
anything is acknowledged: what is not shipped yet is on two machines at any time.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.core.telemetry import get_logger
from rayplat.serve.log.peers import Peer
from rayplat.serve.log.slot import Segment, identity, segments
from rayplat.serve.log.wire import KEPT, MOST_PIECE, PIECE, Greeting, Held, hear, say, take

_CONNECT_S = 2.0
_ANSWER_S = 5.0
_PAUSE_S = 0.2


class Mirror:
    """The mirror of one log; see `local.Elsewhere`.

    Args:
        peers: who may be asked, best first.
        disk: whether the other machine flushes before it acknowledges.
        clock: s, for the pause after nobody could be reached.
    """

    def __init__(
        self,
        peers: Callable[[], Sequence[Peer]],
        *,
        disk: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self._disk = disk
        self._clock = clock
        self._link: socket.socket | None = None
        self._kept = Held(None)
        self._file = -1
        self._failed_at = float("-inf")
        self._due = 0
        self._place: tuple[Path, int, int] | None = None
        self._error: UnavailableError | None = None

    def send(self, slot: Path, start: int, size: int) -> None:
        """See `Elsewhere.send`."""
        self._error, self._place = None, (slot, start, size)
        try:
            if self._link is not None:
                self._send(slot, start, size)
                return
        except (OSError, ValueError) as error:
            get_logger("serve.log").warning("a copy of the prediction log is lost", error=str(error))
            self._drop()
        self._begin(slot, start, size)

    def wait(self) -> None:
        """See `Elsewhere.wait`."""
        while self._error is None:
            try:
                self._acknowledged()
            except OSError as error:
                get_logger("serve.log").warning("a copy of the prediction log is lost", error=str(error))
                self._drop()
                if self._place is not None:
                    self._begin(*self._place)
            else:
                return
        raise self._error

    def close(self) -> None:
        """See `Elsewhere.close`."""
        self._drop()

    def _begin(self, slot: Path, start: int, size: int) -> None:
        """Find somebody who keeps a copy, and bring it up to what the slot holds."""
        if self._clock() - self._failed_at < _PAUSE_S:
            self._error = _nobody()
            return
        try:
            peers = self._peers()
        except RayplatError as error:
            peers = ()
            get_logger("serve.log").warning("nobody knows who keeps copies", error=str(error))
        for peer in peers:
            try:
                self._greet(peer, slot)
                self._send(slot, start, size)
            except (OSError, ValueError) as error:
                get_logger("serve.log").warning("a machine keeps no copy", node=peer.node, error=str(error))
                self._drop()
            else:
                return
        self._failed_at = self._clock()
        self._error = _nobody()

    def _greet(self, peer: Peer, slot: Path) -> None:
        link = socket.create_connection((peer.host, peer.port), _CONNECT_S)
        self._link = link
        link.settimeout(_ANSWER_S)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        say(link, Greeting(peer.secret, identity(slot.parent), slot.name, self._disk))
        told = hear(link)
        if "error" in told:
            raise ValueError(str(told["error"])[:200])
        self._kept = Held(told["start"], int(told["size"]))

    def _send(self, slot: Path, start: int, size: int) -> None:
        """Send what the copy lacks, up to a place; all but the last piece are acknowledged."""
        if self._kept.start == start:
            self._pieces(start, size)
            return
        found = segments(slot)
        self._forget(found[0].start)
        for segment in found:
            if segment.start > start or segment.start < (self._kept.start or 0):
                continue
            self._next(segment)
            # A file that is gone was shipped meanwhile.
            with contextlib.suppress(FileNotFoundError):
                whole = size if segment.start == start else segment.end() - segment.start
                self._pieces(segment.start, whole)

    def _forget(self, until: int) -> None:
        if self._link is not None and self._kept.start is not None:
            self._link.sendall(PIECE.pack(until, 0, 0))
            self._due += 1

    def _next(self, segment: Segment) -> None:
        if self._kept.start != segment.start:
            self._kept = Held(segment.start)
            self._close_file()

    def _pieces(self, start: int, size: int) -> None:
        if self._link is None or self._place is None:
            raise ConnectionResetError("the copy is lost")
        while self._kept.size < size:
            if self._file < 0:
                self._file = os.open(self._place[0] / f"{start:020d}.wal", os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._file, min(size - self._kept.size, MOST_PIECE), self._kept.size)
            if not data:
                raise ValueError("a file of the log is shorter than it was")
            # Before a further piece is sent, what was sent is acknowledged: buffers never fill on both sides.
            self._acknowledged()
            self._link.sendall(PIECE.pack(start, self._kept.size, len(data)) + data)
            self._due += 1
            self._kept = Held(start, self._kept.size + len(data))

    def _acknowledged(self) -> None:
        while self._due:
            if self._link is None:
                raise ConnectionResetError("the copy is lost")
            if take(self._link, 1) != KEPT:
                raise ConnectionResetError("the copy is not kept")
            self._due -= 1

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _drop(self) -> None:
        self._close_file()
        self._kept, self._due = Held(None), 0
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(OSError):
                link.close()


def _nobody() -> UnavailableError:
    return UnavailableError(
        "no other machine keeps a copy of the prediction log",
        "see that a second node runs and can be reached",
    )

"""A peer: a process that keeps copies of other machines' slots, and is known for it.

Knows how it is greeted, how it is found, and when a copy is nobody's any more; it does not know what the
bytes mean. Run as a module it is a peer of the platform that the settings name, until it is stopped.
"""

import contextlib
import hmac
import secrets
import signal
import socket
import struct
import threading
import time
from pathlib import Path

from rayplat.core.errors import RayplatError
from rayplat.core.settings import Settings
from rayplat.core.settings_sources import load_settings
from rayplat.core.telemetry import configure_logging, get_logger
from rayplat.serve.log.copies import Copy, open_copy
from rayplat.serve.log.keeper import EVERY_S, Keeper
from rayplat.serve.log.peers import Peer, Peers
from rayplat.serve.log.places import copies_folder, local_folder
from rayplat.serve.log.wire import KEPT, MOST_PIECE, PIECE, hear, say, take

IDLE_S = 60.0
"""An owner that says nothing for so long is taken for gone; when it is not, it greets again."""

_GREETED_S = 5.0
_TOLD_S = 2.0
_MOST_OWNERS = 256


class CopyServer:
    """Takes the bytes of other machines, each connection on a thread of its own.

    Args:
        place: where the copies are.
        secret: that a greeting must have.
        host: the address to listen on.
        idle_s: see `IDLE_S`.
    """

    def __init__(self, place: Path, secret: str, host: str, *, idle_s: float = IDLE_S) -> None:
        self._place = place
        self._secret = secret
        self._idle_s = idle_s
        self._server = socket.create_server((host, 0), backlog=64)
        self.port = int(self._server.getsockname()[1])
        self._links: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="copies", daemon=True)

    def start(self) -> None:
        """Take bytes from now on."""
        self._thread.start()

    def close(self) -> None:
        """Take no more. What was acknowledged is kept."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._lock:
            links = list(self._links)
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self._thread.join(1.0)

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return  # closed
            with self._lock:
                full = len(self._links) >= _MOST_OWNERS
                if not full:
                    self._links.add(link)
            if full:
                link.close()
                continue
            threading.Thread(target=self._serve, args=(link,), name="copy", daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        copy: Copy | None = None
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.settimeout(_GREETED_S)
            told = hear(link)
            if not hmac.compare_digest(str(told.get("secret", "")).encode(), self._secret.encode()):
                return
            copy = open_copy(self._place, str(told.get("folder")), str(told.get("slot")))
            say(link, copy.end())
            link.settimeout(self._idle_s)
            self._keep(link, copy, disk=told.get("disk") is not False)
        except (OSError, ValueError, struct.error, RayplatError) as error:
            get_logger("serve.log").info("an owner of a copy is gone", error=str(error))
        finally:
            if copy is not None:
                copy.close()
            link.close()
            with self._lock:
                self._links.discard(link)

    def _keep(self, link: socket.socket, copy: Copy, *, disk: bool) -> None:
        while True:
            start, offset, length = PIECE.unpack(take(link, PIECE.size))
            if length > MOST_PIECE:
                raise ValueError("a piece is too long")
            if length:
                copy.write(start, offset, take(link, length), disk=disk)
            else:
                copy.forget(start)
            link.sendall(KEPT)


class LogPeer:
    """A peer of a platform.

    Args:
        node: the machine that it runs on, as replicas name theirs.
        host: the address that it listens on, and at which others reach it.
        every_s: how often the copies of machines that are gone are shipped.
    """

    def __init__(
        self,
        settings: Settings,
        node: str,
        host: str,
        *,
        every_s: float = EVERY_S,
        idle_s: float = IDLE_S,
    ) -> None:
        secret = secrets.token_hex(32)
        self._server = CopyServer(copies_folder(settings, node), secret, host, idle_s=idle_s)
        self._peer = Peer(secrets.token_hex(8), node, host, self._server.port, secret)
        self._peers = Peers(settings)
        self._keeper = Keeper(local_folder(settings), settings, every_s)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log-peer", daemon=True)

    def start(self) -> None:
        """Keep copies from now on.

        Raises:
            UnavailableError: the database does not answer.
        """
        self._server.start()
        self._peers.tell(self._peer, time.time())
        self._thread.start()
        self._keeper.start()

    def close(self) -> None:
        """Keep no more; what was acknowledged stays, and is shipped by who finds it."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(RayplatError):  # it is forgotten soon anyhow
            self._peers.withdraw(self._peer.name)
        self._server.close()
        self._keeper.close()
        self._peers.close()

    def _follow(self) -> None:
        while not self._stop.wait(_TOLD_S):
            try:
                self._peers.tell(self._peer, time.time())
            except RayplatError as error:
                get_logger("serve.log").warning("a peer cannot be told of", error=str(error))


def run(settings: Settings, node: str, host: str) -> None:
    """Be a peer until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    peer = LogPeer(settings, node, host)
    peer.start()
    stop.wait()
    peer.close()


if __name__ == "__main__":
    found = load_settings()
    configure_logging(found.log)
    run(found, socket.gethostname(), found.serve.host)

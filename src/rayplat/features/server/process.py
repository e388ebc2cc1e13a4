"""The server's process: a port, an event loop, and an end that loses no answer.

Knows listening, worker processes and signals; it does not know what is answered.

It binds loopback unless told otherwise: it asks nobody for a token, so whoever reaches the port may read
the features. With several workers each is a process that listens on the same port (SO_REUSEPORT), and the
kernel spreads connections over them.
"""

import asyncio
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.project.load import load_project
from rayplat.core.project.project import Project
from rayplat.core.settings import Settings
from rayplat.core.telemetry import configure_logging
from rayplat.features.online.opening import open_online
from rayplat.features.online.store import OnlineStore
from rayplat.features.server.awake import window_ns
from rayplat.features.server.connection import STALLED_S, Connection, Shared
from rayplat.features.server.drain import draining
from rayplat.features.server.outbox import Outbox
from rayplat.features.server.parent import end_with_parent
from rayplat.features.server.routes import Routes
from rayplat.features.server.steady import settle
from rayplat.features.server.tally import Tally

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.synchronize import Semaphore

    from rayplat.features.parity.log import FeatureLog

    OpenLog = Callable[[Settings], FeatureLog]

HOST = "127.0.0.1"
DRAIN_S = 10.0
"""How long answers that were begun may take after SIGTERM."""

_THREADS = 4
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Where:
    """Where a server listens, and with how many processes, see also `awake`. Port 0: a free one."""

    host: str = HOST
    port: int = 0
    workers: int = 1
    awake: bool = True


def serve(
    settings: Settings,
    address: str,
    where: Where,
    told: Callable[[str], None] = lambda _url: None,
    open_log: "OpenLog | None" = None,
) -> None:
    """Answer until SIGTERM or SIGINT; then what was asked is answered still.

    Args:
        settings: where the online store is.
        address: the project's.
        told: hears the url when the port is open.
        open_log: opens the log, in each process, into which every vector goes before it is answered; it
            must pickle. None: none is logged.

    Raises:
        ProjectError: the project cannot be loaded.
        UserError: the port cannot be had.
        UnavailableError: a worker process has ended.
    """
    bound = listen(where)
    project = load_project(address)
    host, port = bound.getsockname()[:2]
    awake_ns = window_ns(where.workers) if where.awake else 0
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if where.workers == 1:
        with draining(settings, open_log):
            run(settings, project, bound, lambda: told(url), open_log=open_log, awake_ns=awake_ns)
        return
    context = multiprocessing.get_context("spawn")
    ready = context.Semaphore(0)
    place = Where(where.host, port, 2)
    workers = [
        context.Process(
            target=_worker,
            args=(settings, address, place, ready),
            kwargs={"open_log": open_log, "awake_ns": awake_ns},
            daemon=True,
        )
        for _ in range(where.workers)
    ]
    try:
        with draining(settings, open_log):
            _supervise(workers, ready, lambda: told(url))
    finally:
        # Bound but not listening, it has kept the port for the workers.
        bound.close()


def listen(where: Where) -> socket.socket:
    """A bound socket, not yet listening.

    Raises:
        UserError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if where.workers != 1:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((where.host, where.port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise UserError(
            f"{where.host}:{where.port} cannot be listened on: {error}", "free the port or choose another one"
        ) from error
    return bound


def run(
    settings: Settings,
    project: Project,
    bound: socket.socket,
    told: Callable[[], None],
    *,
    open_log: "OpenLog | None" = None,
    awake_ns: int = 0,
) -> None:
    """Answer on a bound socket in this process until SIGTERM or SIGINT; see `serve` and `awake`."""
    import uvloop

    online = open_online(settings)
    log = None if open_log is None else open_log(settings)
    local = settings.online.startswith("lmdb:")
    try:
        with ThreadPoolExecutor(_THREADS, "features") as pool:
            shared = answering(project, online, pool, local=local, log=log)
            shared.awake.window_ns = awake_ns
            uvloop.run(_answer(shared, bound, told))
    finally:
        if log is not None:
            log.close()
        online.close()


async def _answer(shared: Shared, bound: socket.socket, told: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(lambda: Connection(shared), sock=bound, backlog=_BACKLOG)
    settle()
    told()
    sweeper = asyncio.create_task(_sweep(shared))
    await ended.wait()
    sweeper.cancel()
    server.close()
    await _drain(shared)
    if shared.outbox is not None:
        shared.outbox.journal.roll()


def answering(
    project: Project,
    online: OnlineStore,
    pool: ThreadPoolExecutor,
    *,
    local: bool,
    log: "FeatureLog | None" = None,
) -> Shared:
    """What the connections of a server over a project and a store share."""
    tally = Tally()
    routes = Routes(project, online, now_us, tally.page, local=local, log=log)
    outbox = None if log is None else Outbox(log.journal())
    return Shared(find=routes.find, pool=pool, outbox=outbox, tally=tally)


def now_us() -> int:
    """The time, in microseconds since 1970."""
    return time.time_ns() // 1000


async def _drain(shared: Shared) -> None:
    """Answer what has been asked, tell that it was the last, and close."""
    shared.draining = True
    deadline = time.monotonic() + DRAIN_S
    while shared.open and time.monotonic() < deadline:
        for connection in list(shared.open):
            if connection.idle:
                connection.close()
        await asyncio.sleep(0.01)
    for connection in list(shared.open):
        connection.close()


async def _sweep(shared: Shared) -> None:
    """Close connections whose request does not arrive, and the log's file when it is old enough."""
    while True:
        await asyncio.sleep(STALLED_S / 4)
        late = time.monotonic() - STALLED_S
        for connection in list(shared.open):
            if connection.begun is not None and connection.begun < late and not connection.busy:
                connection.close()
        if shared.outbox is not None:
            shared.outbox.journal.roll_if_due()


def _worker(
    settings: Settings,
    address: str,
    where: Where,
    ready: "Semaphore",
    *,
    open_log: "OpenLog | None",
    awake_ns: int,
) -> None:
    configure_logging(settings.log)
    end_with_parent()
    run(settings, load_project(address), listen(where), ready.release, open_log=open_log, awake_ns=awake_ns)


def _supervise(workers: "list[SpawnProcess]", ready: "Semaphore", told: Callable[[], None]) -> None:
    """Start workers, and end them together: one that ends by itself ends the others."""
    asked: list[bool] = []
    before = {
        number: signal.signal(number, lambda *_: asked.append(True))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        for worker in workers:
            worker.start()
        up = 0
        while not asked and all(worker.is_alive() for worker in workers):
            if up < len(workers):
                up += ready.acquire(timeout=0.1)
                if up == len(workers):
                    told()
            else:
                time.sleep(0.1)
    finally:
        _end(workers)
        for number, handler in before.items():
            signal.signal(number, handler)
    if not asked:
        codes = [worker.exitcode for worker in workers]
        raise UnavailableError(
            f"a worker of the feature server has ended (exit codes {codes})", "see its log"
        )


def _end(workers: "list[SpawnProcess]") -> None:
    for worker in workers:
        if worker.is_alive():
            worker.terminate()
    for worker in workers:
        worker.join(DRAIN_S + 5)

"""A log followed over a real socket: to its end, to a cluster's death, and until somebody has seen enough."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web

from rayplat.cluster.jobs.address import Door
from rayplat.cluster.jobs.client import follow_log
from rayplat.core.errors import NotFoundError, UnavailableError


async def _tail(request: web.Request) -> web.StreamResponse:
    if request.match_info["job"] == "none":
        return web.Response(status=404, text="Job none does not exist")
    if request.headers.get("Authorization") != "Bearer t":
        return web.Response(status=403)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("first\n")
    await socket.send_str("x" * 5_000_000)
    if request.match_info["job"] == "dies":
        assert request.transport is not None
        request.transport.abort()
    elif request.match_info["job"] == "endless":
        await socket.receive()
    return socket


@contextmanager
def _server() -> Iterator[str]:
    """An address; the server runs in a process of its own, since aiohttp wants its own loop."""
    code = (
        "import sys; from aiohttp import web; from tests.cluster.jobs.test_following import _tail\n"
        "app = web.Application(); app.router.add_get('/api/jobs/{job}/logs/tail', _tail)\n"
        "web.run_app(app, host='127.0.0.1', port=0, print=lambda t: print(t, flush=True))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        line = next(line for line in child.stdout if "http://" in line)
        yield line.split("Running on ")[1].split()[0].rstrip("/")
    finally:
        child.kill()
        child.wait(10)
        child.stdout.close()


@pytest.fixture(scope="module")
def follow() -> Iterator[Callable[[str], Iterator[str]]]:
    with _server() as address:
        yield lambda job: follow_log(Door(address, "t", False, address, "", ""), job)


def test_a_log_is_followed_to_its_end(follow: Callable[[str], Iterator[str]]) -> None:
    parts = list(follow("good"))
    assert parts[0] == "first\n"
    assert len(parts[1]) == 5_000_000


def test_an_unknown_job_is_not_found(follow: Callable[[str], Iterator[str]]) -> None:
    with pytest.raises(NotFoundError, match="there is no job 'none'"):
        list(follow("none"))


def test_a_cluster_that_dies_is_told(follow: Callable[[str], Iterator[str]]) -> None:
    with pytest.raises(UnavailableError, match="went away"):
        list(follow("dies"))


def test_whoever_has_seen_enough_may_leave(follow: Callable[[str], Iterator[str]]) -> None:
    parts = follow("endless")
    assert next(parts) == "first\n"
    parts.close()  # type: ignore[attr-defined]


def test_an_interrupt_ends_the_wait(follow: Callable[[str], Iterator[str]]) -> None:
    parts = follow("endless")
    next(parts), next(parts)
    begin = time.monotonic()
    # A shell that runs this in the background has it ignored, and Python then keeps it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(parts)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begin < 5

"""The standbys of a machine: processes that are ready to become a replica within a moment.

Knows how they are started, told and counted; it does not know when one is needed. One that has become a
replica is started anew a while later, when the machine has less to do.
"""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import psutil

from rayplat.core.settings_environment import process_environment
from rayplat.core.telemetry import get_logger

_MODULE = "rayplat.serve.replicas.standby"
_MOST_LINE = 1 << 20
_BEFORE_ANEW_S = 2.0


@dataclass(slots=True, eq=False)
class Standby:
    """One process.

    Attributes:
        endpoint: whose model it has loaded, or is; None: no one's yet.
        ready: whether it has said that it waits.
        listening: whether it was told to be a replica.
        memory: that it alone held when it was ready, bytes.
    """

    process: Process
    endpoint: str | None = None
    ready: bool = False
    listening: bool = False
    memory: int = 0
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def tell(self, order: dict[str, Any]) -> None:
        """Give an order, see `standby`."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(orjson.dumps(order) + b"\n")

    def end(self) -> None:
        """Let it finish what it has begun, and end."""
        if self.process.stdin is not None:
            self.process.stdin.close()


class Standbys:
    """All standbys; used on one loop.

    Args:
        plain: so many that have loaded no model.
        spec_of: the spec of an endpoint as JSON values, and how many are to have its model loaded.
    """

    def __init__(self, plain: int, endpoints: Callable[[], dict[str, tuple[dict[str, Any], int]]]) -> None:
        self._plain = plain
        self._endpoints = endpoints
        self._loop = asyncio.get_running_loop()
        self._starting = False
        self._not_before = 0.0
        self.all: list[Standby] = []

    def of(self, endpoint: str | None) -> list[Standby]:
        """Those that wait, with this endpoint's model loaded, or with none."""
        return [one for one in self.all if one.endpoint == endpoint and not one.listening]

    def bridges(self, endpoint: str) -> list[Standby]:
        """Those that are, or are about to be, a replica of an endpoint."""
        return [one for one in self.all if one.endpoint == endpoint and one.listening]

    def call_up(self, endpoint: str, spec: dict[str, Any]) -> bool:
        """Let one become a replica; whether there was one."""
        loaded = [one for one in self.of(endpoint) if one.ready]
        for one in loaded or [one for one in self.of(None) if one.ready]:
            if not loaded:
                one.endpoint = endpoint
                one.tell({"load": spec})
            one.listening = True
            one.tell({"listen": True})
            self._not_before = self._loop.time() + _BEFORE_ANEW_S
            return True
        return False

    def forget(self, endpoint: str) -> None:
        """The endpoint is gone, or another version of it is to answer."""
        for one in self.all:
            if one.endpoint == endpoint:
                one.end()

    def fill(self) -> None:
        """Start one that is missing, if there is one, and if it is time."""
        if self._starting or self._loop.time() < self._not_before:
            return
        for endpoint, (spec, count) in self._endpoints().items():
            if len(self.of(endpoint)) < count:
                self._start(endpoint, spec)
                return
        if len(self.of(None)) < self._plain:
            self._start(None, None)

    def close(self) -> None:
        """End all."""
        for one in self.all:
            one.end()

    async def gone(self, within_s: float) -> None:
        """Wait for the end of all; kill those that take longer."""
        if not self.all:
            return
        ends = [asyncio.ensure_future(one.process.wait()) for one in self.all]
        _, late = await asyncio.wait(ends, timeout=within_s)
        if late:
            for one in self.all:
                with contextlib.suppress(ProcessLookupError):
                    one.process.kill()
            await asyncio.wait(late)

    def _start(self, endpoint: str | None, spec: dict[str, Any] | None) -> None:
        self._starting = True
        task = self._loop.create_task(self._run(endpoint, spec))
        task.add_done_callback(self._started)

    def _started(self, task: "asyncio.Task[None]") -> None:
        self._starting = False
        if not task.cancelled() and task.exception() is not None:
            get_logger("serve.replicas").error("a standby does not start", error=str(task.exception()))
            self._not_before = self._loop.time() + 10 * _BEFORE_ANEW_S

    async def _run(self, endpoint: str | None, spec: dict[str, Any] | None) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _MODULE),
            stdin=PIPE,
            stdout=PIPE,
            env=process_environment(),
            limit=_MOST_LINE,
        )
        one = Standby(process, endpoint)
        self.all.append(one)
        one.tasks.append(self._loop.create_task(self._follow(one)))
        if spec is not None:
            one.tell({"load": spec})
        while not one.ready and process.returncode is None:
            await asyncio.sleep(0.05)

    async def _follow(self, one: Standby) -> None:
        """Hear what it says until it ends."""
        assert one.process.stdout is not None
        waited = 1 if one.endpoint is None else 2  # once when it is imported, once when it has loaded
        while await one.process.stdout.readline():
            waited -= 1
            if waited == 0:
                one.memory = await self._loop.run_in_executor(None, _held_alone, one.process.pid)
                one.ready = True
        code = await one.process.wait()
        self.all.remove(one)
        if code:
            get_logger("serve.replicas").error("a standby has failed", code=code, endpoint=one.endpoint)
            self._not_before = self._loop.time() + 10 * _BEFORE_ANEW_S


def _held_alone(pid: int) -> int:
    """The memory that a process shares with no other, bytes; 0 where it has ended."""
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_full_info().uss)
    return 0

"""The keeper of a machine: holds its port, deals its connections, and follows the load with replicas.

Knows the endpoints whose replicas have sat down once, and what each of them needs now; it does not know Ray.
What it wants is a number in a file for each endpoint, which Ray Serve's policy reads (`in_serve`). Until Ray
Serve's replicas answer, standbys stand in for them.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from rayplat.core.errors import UnavailableError
from rayplat.core.telemetry import get_logger
from rayplat.features.server.process import Where, listen
from rayplat.serve.front.seat import keeper_folder, seat_path
from rayplat.serve.replicas.dealer import Dealer, Sitting
from rayplat.serve.replicas.policy import Facts, Past, decide
from rayplat.serve.replicas.schedule import floor
from rayplat.serve.replicas.standbys import Standbys
from rayplat.serve.spec import EndpointSpec

TICK_S = 0.05
_STARTED_WITHIN_S = 10.0
_DRAIN_S = 10.0
_SWEEP_S = 0.5
_BACKLOG = 4096


@dataclass(slots=True)
class _Kept:
    """An endpoint.

    Attributes:
        told: its spec as JSON values.
        since: when it was deployed; a later one takes its place.
    """

    spec: EndpointSpec
    told: dict[str, Any]
    since: float
    past: Past
    reason: str = ""


class Keeper:
    """The keeper, on a thread of its own.

    Args:
        folder: of the machine's fronts.
        where: the address that all may reach.
        standbys: so many processes stand by without a model.
        session: of the cluster; what a keeper of another one knew is of no use.
    """

    def __init__(self, folder: Path, where: Where, standbys: int, session: str = "") -> None:
        self._public = listen(Where(where.host, where.port, workers=2))
        self.port = int(self._public.getsockname()[1])
        self.seats = seat_path(folder, self.port)
        self._folder = keeper_folder(folder, self.port)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "port").write_text(str(self.port))
        self._plain = standbys
        self._session = session
        self._kept: dict[str, _Kept] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Hold the port from now on.

        Raises:
            UnavailableError: the event loop did not start.
        """
        self._thread.start()
        if not self._begun.wait(_STARTED_WITHIN_S):
            raise UnavailableError("the keeper has not started", "look at its log in the dashboard")

    def close(self) -> None:
        """Hold the port no more, and end the standbys. May be called twice."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_DRAIN_S + 5)

    def forget(self, endpoint: str) -> None:
        """Expect an endpoint no more."""
        self._on_loop(lambda: self._forget(endpoint))

    def told(self) -> dict[str, dict[str, Any]]:
        """What is seen of each endpoint, and decided."""
        return dict(self._on_loop(lambda: {name: self._seen(name, one) for name, one in self._kept.items()}))

    def sitting(self) -> list[Sitting]:
        """The replicas that sit here now."""
        return list(self._on_loop(lambda: self._dealer.sitting))

    def _on_loop(self, work: Callable[[], Any]) -> Any:
        assert self._loop is not None

        async def do() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(_STARTED_WITHIN_S)

    def _run(self) -> None:
        # Not uvloop: it does not watch sockets that others have made as well as its own.
        asyncio.run(self._hold())

    async def _hold(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._public.setblocking(False)
        self._public.listen(_BACKLOG)
        path = self.seats
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as seats:
            seats.bind(str(path))
            path.chmod(0o600)  # whoever sits here is given the callers' connections
            seats.setblocking(False)
            seats.listen(_BACKLOG)
            self._dealer = Dealer(self._public, seats, self._patience, self._joined)
            self._standbys = Standbys(self._plain, self._wanted_standbys)
            self._read_kept()
            self._begun.set()
            await self._follow()
            path.unlink(missing_ok=True)
            self._standbys.close()
            self._dealer.close()
            self._public.close()
            await self._standbys.gone(_DRAIN_S)

    async def _follow(self) -> None:
        swept = 0.0
        while not self._end.is_set():
            now = time.monotonic()
            if now - swept > _SWEEP_S:
                self._dealer.sweep(now)
                self._standbys.fill()
                swept = now
            for name, one in list(self._kept.items()):
                self._decide(name, one, now)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), TICK_S)

    def _decide(self, name: str, one: _Kept, now: float) -> None:
        there = self._dealer.of(name)
        own = [replica for replica in there if not replica.bridge]
        bridges = [replica for replica in there if replica.bridge]
        facts = self._facts(name, there)
        least = floor(one.spec.autoscale.schedule, datetime.now(UTC))
        decision = decide(one.spec.autoscale, facts, least, one.past, now)
        if decision.target != one.past.target:
            self._want(name, decision.target)
            get_logger("serve.replicas").info(
                "replicas", endpoint=name, target=decision.target, reason=decision.reason
            )
            one.reason = decision.reason
        one.past = decision.past
        missing = decision.target - len(own) - len(self._standbys.bridges(name))
        if missing > 0:
            self._standbys.call_up(name, one.told)
        for bridge in bridges[: max(0, len(own) + len(bridges) - decision.target)]:
            bridge.leaving = True
            self._dealer.quit(bridge)

    def _facts(self, name: str, there: list[Sitting]) -> Facts:
        answered = sum(one.answered for one in there)
        seconds = sum(one.seconds for one in there)
        for one in there:
            one.answered, one.seconds = 0, 0.0
        return Facts(
            replicas=len(there),
            ongoing=sum(one.ongoing for one in there),
            held=self._dealer.held(name),
            latency_s=seconds / answered if answered else None,
        )

    def _joined(self, replica: Sitting) -> None:
        """A replica that sits down tells its endpoint's spec: the latest one holds."""
        name, since = replica.endpoint, float(replica.hello["since"])
        known = self._kept.get(name)
        if replica.bridge or (known is not None and known.since >= since):
            return
        told = replica.hello["spec"]
        if known is not None and known.told != told:
            self._standbys.forget(name)
            for bridge in self._dealer.of(name):
                if bridge.bridge:
                    bridge.leaving = True
        self._keep(name, told, since)

    def _keep(self, name: str, told: dict[str, Any], since: float) -> None:
        spec = EndpointSpec.from_json(told)
        past = self._kept[name].past if name in self._kept else None
        now = time.monotonic()
        target = max(1, spec.autoscale.least, self._wanted(name))
        begun = past or Past(target, ((now, target),), asked_at=now)
        self._kept[name] = _Kept(spec, told, since, begun)
        file = self._folder / f"{name}.kept"
        file.touch(mode=0o600)  # the settings may hold secrets
        file.write_bytes(orjson.dumps({"told": told, "since": since, "session": self._session}))
        self._want(name, self._kept[name].past.target)

    def _read_kept(self) -> None:
        """The endpoints of a keeper that was here before."""
        for file in self._folder.glob("*.kept"):
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
                found = orjson.loads(file.read_bytes())
                if found["session"] == self._session:
                    self._keep(file.stem, found["told"], found["since"])
                    continue
            self._forget(file.stem)

    def _want(self, name: str, count: int) -> None:
        file = self._folder / f"{name}.wanted"
        new = file.with_suffix(".new")
        new.write_text(str(count))
        new.replace(file)

    def _wanted(self, name: str) -> int:
        """What a keeper that was here before wanted; 0: nothing is known."""
        try:
            return int((self._folder / f"{name}.wanted").read_text())
        except (OSError, ValueError):
            return 0

    def _forget(self, name: str) -> None:
        self._kept.pop(name, None)
        for suffix in ("kept", "wanted"):
            (self._folder / f"{name}.{suffix}").unlink(missing_ok=True)
        self._dealer.forget(name)
        self._standbys.forget(name)

    def _patience(self, name: str) -> tuple[int, float] | None:
        one = self._kept.get(name)
        return None if one is None else (one.spec.answering.waiting, one.spec.answering.timeout_s)

    def _wanted_standbys(self) -> dict[str, tuple[dict[str, Any], int]]:
        return {name: (one.told, one.spec.autoscale.standbys) for name, one in self._kept.items()}

    def _seen(self, name: str, one: _Kept) -> dict[str, Any]:
        there = self._dealer.of(name)
        waiting = [*self._standbys.of(name), *self._standbys.of(None)]
        return {
            "target": one.past.target,
            "reason": one.reason,
            "replicas": sum(not replica.bridge for replica in there),
            "bridges": sum(replica.bridge for replica in there),
            "ongoing": round(sum(replica.ongoing for replica in there), 2),
            "held": self._dealer.held(name),
            "standbys": sum(standby.ready for standby in waiting),
            "standby_mib": round(sum(standby.memory for standby in waiting) / 2**20),
        }

"""One platform whose replicas follow a load, and what was measured of it.

Run: python benchmarks/replicas_world.py rayplat|ray_serve|ray_serve_tuned HOME ROUNDS TURN — prints JSON.

The model sleeps 20 ms and tells its process. `up_s`: from 3 callers at once to the first answer of a process
that was not there; `down_s`: from 1 caller again to one replica and nothing that is stopping, of it
`decided_s` to the keeper's decision and `stopping_s` to the first replica that is ending; `zero_s`: from the
first request where there is no replica to its answer. Ray Serve's two are asked through its own proxy.
Worlds that have one file TURN are set up and ended at once, and measured alone.
"""

import contextlib
import fcntl
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rayplat.cluster.session import connect, disconnect, down, up
from rayplat.core.settings import Settings

BUSY, MOST, SLEEP_S = 3, 3, 0.02
LOAD = Path(__file__).with_name("replicas_load.py")
TUNED = {
    "target_ongoing_requests": 1.2,
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 0.6,
    "look_back_period_s": 0.5,
    "metrics_interval_s": 0.1,
}
PATIENCE_S = 90.0
BEGUN = time.monotonic()
LOOK_S = 0.03


class Load:
    """The callers' process."""

    def __init__(self, url: str, body: bytes) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(LOAD), url, body.decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._told: queue.Queue[dict[str, Any]] = queue.Queue()
        self.failures: list[str] = []
        self.times: list[dict[str, Any]] = []
        threading.Thread(target=self._hear, daemon=True).start()

    def become(self, count: int) -> float:
        """So many callers from now on; the moment when they began."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return float(self.wait("callers")["at"])

    def wait(self, kind: str) -> dict[str, Any]:
        """The next line of a kind."""
        while True:
            told = self._told.get(timeout=PATIENCE_S)
            if "failure" in told:
                self.failures.append(told["failure"])
            if kind in told:
                return told

    def end(self) -> dict[str, Any]:
        """Stop; how many were answered and how many failed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        told = self.wait("answered")
        self._process.wait(10)
        return told

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "times" in told:
                self.times.append(told)
            else:
                self._told.put(told)


def step(what: str) -> None:
    """Tell on standard error what begins now."""
    print(f"{time.monotonic() - BEGUN:6.1f} s: {what}", file=sys.stderr, flush=True)


def until(holds: Callable[[], bool]) -> float:
    """Wait; the moment when it held."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come about")
        # The controller that answers is the one whose loop is measured: it is not asked without rest.
        time.sleep(LOOK_S)
    return time.time()


def states(name: str) -> dict[str, int]:
    """The replicas of an application by their state."""
    from ray import serve

    (deployment,) = serve.status().applications[name].deployments.values()
    return {str(state): count for state, count in deployment.replica_states.items() if count}


class Followed:
    """What is followed: an application of Serve, and whatever stands in for its replicas."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ready(self) -> bool:
        """Whether a round may begin."""
        return states(self.name) == {"RUNNING": 1}

    def many(self) -> bool:
        """Whether all replicas have come."""
        return states(self.name) == {"RUNNING": MOST}

    def target(self) -> int | None:
        """The number that is wanted; None: it is not known."""
        return None

    def seen(self) -> object:
        """How it stands, for a message."""
        return states(self.name)

    def one_left(self) -> bool:
        """Whether one replica is left and nothing is stopping."""
        return states(self.name) == {"RUNNING": 1}


def follow(url: str, body: bytes, followed: Followed, rounds: int) -> dict[str, Any]:
    """Raise and lower the load; what that took. With 0 rounds it is raised once, and that is all."""
    load = Load(url, body)
    load.become(1)
    load.wait("process")
    found: dict[str, list[float]] = {}
    for _ in range(rounds or 1):
        step("one replica is awaited")
        until(followed.ready)
        time.sleep(0.5)
        step("the load rises")
        begun = load.become(BUSY)
        found.setdefault("up_s", []).append(first_of_new(load, begun) - begun)
        if not rounds:
            break
        try:
            until(followed.many)
        except TimeoutError as late:
            raise TimeoutError(f"{MOST} replicas are wanted, there are {followed.seen()}") from late
        time.sleep(0.5)
        step("the load falls")
        for key, at in lowered(load, followed).items():
            found.setdefault(key, []).append(at)
    told = load.end()
    return {
        **found,
        **{key: told[key] for key in ("answered", "failed", "again")},
        "failures": load.failures[:3],
    }


def first_of_new(load: Load, begun: float) -> float:
    """When a process that was not heard of before answered first, after a moment."""
    while (at := float(load.wait("process")["at"])) < begun:
        continue
    return at


def lowered(load: Load, followed: Followed) -> dict[str, float]:
    """Let one caller be left; what it took until one replica was, and parts of that."""
    begun = load.become(1)
    found: dict[str, float] = {}

    def look() -> bool:
        if "decided_s" not in found and followed.target() == 1:
            found["decided_s"] = time.time() - begun
        if "stopping_s" not in found and states(followed.name).get("STOPPING"):
            found["stopping_s"] = time.time() - begun
        return followed.one_left()

    return {"down_s": until(look) - begun, **found}


def free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def tells_its_process(settings: Settings) -> Any:
    """A project with a champion that sleeps 20 ms and tells its process; see `replicas_load.SCALE`."""
    from tests.serve import world as worlds

    forward = "return self.linear(torch.nan_to_num(x)).squeeze(-1)"
    tells = "import os, time; time.sleep(0.02); "
    tells += "return torch.full((len(x),), os.getpid() * 1e-6, dtype=torch.float64)"
    worlds.PROJECT = worlds.PROJECT.replace(forward, tells)
    world = worlds.make_world(settings.home, settings)
    world.crown(world.register())
    return world


class Turn:
    """Worlds that run side by side measure in turns: what they hold together while they do anything else."""

    def __init__(self, file: Path) -> None:
        self._held = file.open()
        fcntl.flock(self._held, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else is busy."""
        fcntl.flock(self._held, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._held, fcntl.LOCK_UN)
            time.sleep(0.1)  # who waits to measure comes first
            fcntl.flock(self._held, fcntl.LOCK_SH)


def rayplat(settings: Settings, rounds: int, turn: Turn) -> dict[str, Any]:
    """Ours: the keeper deals, standbys bridge, Ray Serve's replicas follow."""
    from dataclasses import replace

    import httpx

    from rayplat.core.events import EventBus
    from rayplat.core.project.serving import Autoscale
    from rayplat.serve.app import deploy
    from rayplat.serve.replicas.actor import end_keeper, keeper_tells

    class Ours(Followed):
        def ready(self) -> bool:
            return self.one_left() and seen()["standbys"] == 1

        def many(self) -> bool:
            return super().many() and seen()["bridges"] == 0 and seen()["replicas"] == MOST

        def target(self) -> int | None:
            return int(seen()["target"])

        def seen(self) -> object:
            return super().seen(), seen()

        def one_left(self) -> bool:
            return seen()["bridges"] == 0 and super().one_left()

    step("Ray is up")
    world = tells_its_process(settings)
    scale = Autoscale(0, MOST, cpus=0.1, ongoing=1.2, idle_s=2.0)
    endpoint = replace(world.project.endpoints[0], autoscale=scale)
    deploy(settings, world.project, endpoint, world.registry, EventBus())
    step("deployed")
    url = f"http://127.0.0.1:{settings.serve.front_port}/v1/endpoints/buys/predict"
    question = {"instances": [{"shop": "north", "amount": 0.5}]}

    def seen() -> dict[str, Any]:
        return keeper_tells(settings)["buys"]

    def nothing_left() -> bool:
        return states("buys") == {} and seen()["bridges"] == 0 and seen()["standbys"] == 1

    found: dict[str, Any] = {"zero_s": []}
    with turn.alone(), httpx.Client(timeout=60) as client:
        found |= follow(url, json.dumps(question).encode(), Ours("buys"), rounds)
        for _ in range(min(rounds, 2)):
            step("no replica is awaited")
            until(nothing_left)
            time.sleep(0.5)
            found["standby_mib"] = seen()["standby_mib"]
            begun = time.time()
            answer = client.post(url, json=question, headers={"connection": "close"})
            found["zero_s"].append(time.time() - begun)
            assert answer.status_code == 200, answer.text
        found["load_s"] = loaded_in(settings)
    end_keeper(settings)
    return found


def loaded_in(settings: Settings) -> float:
    """How long a process that has everything imported takes to load the model, s."""
    import orjson

    from rayplat.serve.replica import FrontAlone
    from rayplat.serve.replicas.standby import warm_up
    from rayplat.serve.spec import EndpointSpec

    warm_up()
    (file,) = (settings.home / "front").glob("*/keeper-*/buys.kept")
    spec = EndpointSpec.from_json(orjson.loads(file.read_bytes())["told"])
    begun = time.perf_counter()
    FrontAlone(spec, lambda: None)
    return time.perf_counter() - begun


def ray_serve(rounds: int, turn: Turn, scale: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ray Serve by itself, with its defaults or tuned."""
    from ray import serve

    port = free_port()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})

    @serve.deployment(
        name="model",
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": MOST,
            "target_ongoing_requests": 1.2,
            **(scale or {}),
        },
        max_ongoing_requests=64,
        ray_actor_options={"num_cpus": 0.1},
        # As ours; by default Serve looks every 2 s whether a replica that is to end has finished.
        graceful_shutdown_wait_loop_s=2.0 if scale is None else 0.1,
    )
    class Model:
        def __init__(self) -> None:
            import torch  # as ours, a model needs its library

            self.loaded = torch.__version__

        def __call__(self, _request: Any) -> int:
            time.sleep(SLEEP_S)
            return os.getpid()

    serve.run(Model.bind(), name="peer", route_prefix="/peer")
    step("deployed")
    url = f"http://127.0.0.1:{port}/peer"
    with turn.alone():
        return follow(url, b"{}", Followed("peer"), rounds)


@contextlib.contextmanager
def platform(home: Path) -> Iterator[Settings]:
    settings = Settings.model_validate(
        {
            "home": home,
            "ray": {"cpus": 4, "object_store_mib": 128},
            "serve": {"port": 0, "front_port": free_port(), "log_sync": "process"},
        }
    )
    up(settings)
    try:
        connect(settings)
        yield settings
    finally:
        with contextlib.suppress(Exception):
            disconnect()
        down(settings)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    kinds: dict[str, Callable[[Settings, int, Turn], dict[str, Any]]] = {
        "rayplat": rayplat,
        "ray_serve": lambda _settings, _rounds, turn: ray_serve(0, turn),
        "ray_serve_tuned": lambda _settings, rounds, turn: ray_serve(rounds, turn, TUNED),
    }
    turns = Turn(Path(sys.argv[4]))
    with platform(Path(sys.argv[2])) as made:
        print(json.dumps(kinds[sys.argv[1]](made, int(sys.argv[3]), turns)), flush=True)
    os._exit(0)

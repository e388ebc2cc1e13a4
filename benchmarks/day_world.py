"""A small day of a cluster: replicas want GPUs, a training gives some back, ingest goes on, idle nodes leave.

Run: .venv/bin/python benchmarks/day_world.py HOME SEED CYCLES — prints the day as one line of JSON.

The cluster is the local one: a head and simulated nodes under Ray's own autoscaler. The training is a
group of actors with a GPU each that shrinks to its least when others wait, and grows again.
"""

import json
import os
import random
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from rayplat.cluster.observe import Look, Observer
from rayplat.cluster.recorder import shapes
from rayplat.cluster.session import connect, down, up
from rayplat.cluster.spec import load_spec
from rayplat.core.events import EventBus
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings

SPEC = """
name: day
groups:
  head: {kind: head, cpus: 4, memory_gib: 8}
  cpu: {kind: cpu, cpus: 2, memory_gib: 4, max: 2}
  gpu: {kind: gpu, accelerator: L4, gpus: 1, cpus: 2, memory_gib: 8, max: 3, spot: {share: 0.34}}
prices:
  own:
    head: {on_demand: 0.20}
    cpu: {on_demand: 0.10}
    gpu: {on_demand: 1.00, spot: 0.40}
local:
  simulate: true
  cpus: 4
  speedups: {idle_timeout_s: 6, autoscaler_s: 1}
"""
HEAD_USD = 0.20
MAX = {"head": 1, "cpu": 2, "gpu": 3}
LEAST, MOST = 1, 3
LOOK_S = 0.5
PATIENCE_S = 100.0


class Training:
    """An elastic group: grows to `MOST` where GPUs are free or may come, and gives back what others want."""

    def __init__(self) -> None:
        import ray

        self._remote: Any = ray.remote(num_gpus=1, num_cpus=0)(_Worker)
        self.workers: list[Any] = []
        self.given_back = 0

    def grow(self) -> None:
        while len(self.workers) < MOST:
            self.workers.append(self._remote.remote())

    def give_back(self) -> None:
        import ray

        if len(self.workers) > LEAST:
            ray.kill(self.workers.pop())
            self.given_back += 1

    def end(self) -> None:
        import ray

        while self.workers:
            ray.kill(self.workers.pop())


class _Worker:
    def step(self) -> int:
        return os.getpid()


class Watching(threading.Thread):
    """Looks at the cluster twice a second, for the timeline; every look is a sample."""

    def __init__(self, address: str, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.samples: list[dict[str, Any]] = []
        self.newest: Look | None = None
        self.begin = time.monotonic()
        self._observer = Observer(address)
        self._spec = load_spec(Path(settings.ray.spec))

    def run(self) -> None:
        while not self.over.wait(LOOK_S):
            self.newest = look = self._observer.look()
            self.samples.append(self._sample(look))

    def _sample(self, look: Look) -> dict[str, Any]:
        known = shapes(look, self._spec, simulated=True)
        held: dict[str, float] = {}
        for use in look.uses:
            held[use.owner.kind] = held.get(use.owner.kind, 0.0) + use.resources.get("GPU", 0.0)
        return {
            "at": round(time.monotonic() - self.begin, 2),
            "nodes": [(node.group, node.market) for node in look.alive],
            "waiting": [
                {
                    "resources": dict(demand.resources),
                    "count": demand.count,
                    "could_be_met": any(
                        s.running < s.most
                        and all(s.resources.get(k, 0.0) >= v for k, v in demand.resources.items())
                        for s in known
                    ),
                }
                for demand in look.demands
            ],
            "gpus": held,
        }

    def wait_for(self, what: str, holds: Any, patience_s: float = PATIENCE_S) -> float:
        """Wait until a look fulfils `holds`; how long that took, s."""
        begin = time.monotonic()
        while True:
            look = self.newest
            if look is not None and holds(look):
                return time.monotonic() - begin
            if time.monotonic() - begin > patience_s:
                raise TimeoutError(f"{what} did not come within {patience_s:.0f} s; last seen: {look}")
            time.sleep(0.1)


def gpus(kind: str, count: int) -> Any:
    """Whether a look shows owners of a kind with so many GPUs."""
    return lambda look: sum(u.resources.get("GPU", 0.0) for u in look.uses if u.owner.kind == kind) == count


def wanted_by_others(look: Look, training: Training) -> bool:
    """Whether more GPUs are waited for than the training itself waits for."""
    waiting = sum(d.count for d in look.demands if d.resources.get("GPU"))
    holds = sum(u.resources.get("GPU", 0.0) for u in look.uses if u.owner.kind == "job")
    return waiting > len(training.workers) - holds


def replicas(count: int) -> None:
    """Deploy an endpoint with so many replicas, a GPU each; none: delete it."""
    from ray import serve

    # A proxy on every node would keep a node for half a minute after its last replica.
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": 0})
    if not count:
        serve.delete("assistant", _blocking=False)
        return

    @serve.deployment(name="Model", num_replicas=count, ray_actor_options={"num_cpus": 0, "num_gpus": 1})
    class Model:
        def __call__(self) -> str:
            return "yes"

    serve._run(Model.bind(), name="assistant", route_prefix="/assistant", _blocking=False)


def prepare(tasks: int) -> list[Any]:
    """Start CPU work of some seconds: more than the head can take."""
    import ray

    remote: Any = ray.remote(num_cpus=2, max_retries=0)(_prepare)
    return [remote.remote() for _ in range(tasks)]


def _prepare() -> None:
    time.sleep(2.0)


def cycle(watching: Watching, training: Training, chance: random.Random) -> None:
    """CPU work comes; the training takes all GPUs, gives some back to an endpoint, and all of them end."""
    import ray

    work = prepare(6)
    training.grow()
    watching.wait_for("GPUs for the training", gpus("job", MOST))
    time.sleep(chance.uniform(0, 2))
    wanted = chance.choice([1, 2])
    replicas(wanted)
    begin = time.monotonic()
    while not watching.newest or not gpus("endpoint", wanted)(watching.newest):
        if watching.newest and wanted_by_others(watching.newest, training):
            training.give_back()
            time.sleep(2 * LOOK_S)
        if time.monotonic() - begin > PATIENCE_S:
            raise TimeoutError(f"the replicas got no GPU; last seen: {watching.newest}")
        time.sleep(0.1)
    time.sleep(chance.uniform(1, 3))
    replicas(0)
    watching.wait_for("the end of the replicas", gpus("endpoint", 0))
    training.end()
    ray.get(work)


def last_rate(settings: Settings) -> float:
    """What runs at the end, USD an hour; the recorder may need a moment to write the last end down."""
    from datetime import UTC, datetime

    from rayplat.cost.accounts import Accounts

    deadline = time.monotonic() + 15
    with Accounts(settings) as accounts:
        while (rate := accounts.rate(datetime.now(UTC)) / 1e9) > HEAD_USD and time.monotonic() < deadline:
            time.sleep(0.5)
    return rate


def main(home: Path, seed: int, cycles: int) -> dict[str, Any]:
    from tests.data.worlds import TABLE, departures, mixture, produce
    from tests.faults.ingested import committed

    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.data.streaming.development.mock_cluster import MockCluster
    from rayplat.data.streaming.service import IngestService

    chance = random.Random(seed)
    home.mkdir(parents=True, exist_ok=True)
    (home / "platform.yaml").write_text(SPEC)
    ray = {"spec": str(home / "platform.yaml"), "object_store_mib": 128, "record_s": 1.0}
    settings = Settings.model_validate({"home": home, "ray": ray})
    info = up(settings)
    connect(settings)
    watching = Watching(info.address, settings)
    watching.start()
    with MockCluster() as broker:
        broker.create("departures", 1)
        with_broker = {
            "kafka": KafkaSettings(bootstrap=broker.bootstrap),
            "ingest": IngestSettings(trigger_s=0.5),
        }
        lake = Lakehouse(settings)
        service = IngestService(lake, settings.model_copy(update=with_broker), EventBus())
        threading.Thread(target=service.feed, args=([departures()],), daemon=True).start()
        produced = 0
        over = threading.Event()

        def tell() -> None:
            nonlocal produced
            while not over.wait(1.0):
                values = mixture(100, chance.randrange(10**6))
                produce(broker.bootstrap, "departures", 0, values)
                produced += len(values)

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        # Where else it came to run, it would keep that node from ever being idle.
        watching.wait_for(
            "the ingest on the head", lambda look: any(u.owner.kind == "ingest" for u in look.uses)
        )
        training = Training()
        for turn in range(cycles):
            if turn:
                time.sleep(chance.uniform(4, 14))  # some pauses are longer than the idle timeout
            cycle(watching, training, chance)
        left_s = watching.wait_for("the end of the idle nodes", lambda look: len(look.alive) == 1)
        over.set()
        telling.join()
        deadline = time.monotonic() + 30
        while committed(lake, TABLE).get("0") != produced and time.monotonic() < deadline:
            time.sleep(0.1)
        taken_in = committed(lake, TABLE).get("0", 0)
        service.stop()
    watching.over.set()
    watching.join()
    return {
        "seed": seed,
        "samples": watching.samples,
        "given_back": training.given_back,
        "idle_nodes_left_s": round(left_s, 2),
        "produced": produced,
        "taken_in": taken_in,
        "rate_at_the_end": last_rate(settings),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    place, code = Path(sys.argv[1]), 0
    try:
        print(json.dumps(main(place, int(sys.argv[2]), int(sys.argv[3]))), flush=True)
    except Exception:
        traceback.print_exc()
        code = 1
    finally:
        down(Settings(home=place))
        sys.stderr.flush()
        os._exit(code)

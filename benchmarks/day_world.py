"""A small day of a cluster: replicas want GPUs, a training gives some back, ingest goes on, idle nodes leave.

Run: .venv/bin/python benchmarks/day_world.py HOME SEED CYCLES — prints the day as one line of JSON.

The cluster is the local one: a head and simulated nodes under Ray's own autoscaler, with a spot market that
takes nodes away by the seed's trace. The training is rayplat's elastic group (`day_training`), the replicas
are moved by Serve's own autoscaler, and callers ask them all the time that they are wanted.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from rayplat.cluster.observe import Look, Observer
from rayplat.cluster.recorder import shapes
from rayplat.cluster.session import connect, disconnect, down, up
from rayplat.cluster.spec import load_spec
from rayplat.core.events import EventBus
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings

SPEC = """
name: day
groups:
  head: {{kind: head, cpus: 4, memory_gib: 8}}
  cpu: {{kind: cpu, cpus: 2, memory_gib: 4, max: 2}}
  gpu: {{kind: gpu, accelerator: L4, gpus: 1, cpus: 2, memory_gib: 8, max: 3, spot: {{share: 0.34}}}}
prices:
  own:
    head: {{on_demand: 0.20}}
    cpu: {{on_demand: 0.10}}
    gpu: {{on_demand: 1.00, spot: 0.40}}
local:
  simulate: true
  cpus: 4
  speedups: {{idle_timeout_s: 6, autoscaler_s: 1}}
  spot_trace: {{seed: {seed}, stay_s: 60, notice_s: 4}}
"""
HEAD_USD = 0.20
MAX = {"head": 1, "cpu": 2, "gpu": 3}
LEAST, MOST = 1, 3
LOOK_S = 0.5
PATIENCE_S = 150.0
ANSWER_S = 0.2
FRESH_S = 2.0
SCALE = {
    "min_replicas": 0,
    "initial_replicas": 0,
    "max_replicas": 2,
    "target_ongoing_requests": 1,
    "upscale_delay_s": 1.0,
    "downscale_delay_s": 3.0,
    "metrics_interval_s": 0.5,
    "look_back_period_s": 2.0,
}
TRAINING = Path(__file__).with_name("day_training.py")


def settings_of(home: Path) -> Settings:
    """The settings of a day's platform."""
    ray = {"spec": str(home / "platform.yaml"), "object_store_mib": 128, "record_s": 1.0}
    return Settings.model_validate({"home": home, "ray": ray})


class Training:
    """The elastic run, a process of its own: stopped with a checkpoint, it goes on when it is begun again."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[str] | None = None
        self.told: list[dict[str, Any]] = []

    def begin(self) -> None:
        (self._home / "training" / "stop").unlink(missing_ok=True)
        with (self._home / "training.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(TRAINING), str(self._home)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def end(self) -> None:
        if self._process is None:
            return
        (self._home / "training" / "stop").touch()
        out, _ = self._process.communicate(timeout=PATIENCE_S)
        if self._process.returncode:
            raise RuntimeError(f"the training ended with {self._process.returncode}: {self.log()[-2000:]}")
        self.told.append(json.loads(out.splitlines()[-1]))
        self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def log(self) -> str:
        return (self._home / "training.log").read_text()

    def steps(self) -> list[int]:
        """Every step that was taken, as rank 0 of its moment wrote it down."""
        return [int(step) for _, step, _ in self._lines()]

    def world(self) -> int:
        """How many train together now; 0 where no step was taken within a moment."""
        lines = self._lines()
        return int(lines[-1][2]) if lines and time.time() - float(lines[-1][0]) < FRESH_S else 0

    def _lines(self) -> list[list[str]]:
        path = self._home / "training" / "steps"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


class Callers:
    """Ask the endpoint all the time: so many at once as Serve is to see."""

    def __init__(self, handle: Any, count: int) -> None:
        self._over = threading.Event()
        self.answered = 0
        self.failed = 0
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(handle,), daemon=True) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _ask(self, handle: Any) -> None:
        while not self._over.is_set():
            try:
                answer = handle.remote().result(timeout_s=PATIENCE_S)
            # A replica whose node was taken takes its request along: its caller asks again.
            except Exception as error:
                print(f"a request failed: {error!r}"[:300], file=sys.stderr)
                answer = None
                time.sleep(0.1)
            with self._lock:
                self.answered += answer == "yes"
                self.failed += answer != "yes"


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
            "leaving": sum(node.leaves is not None for node in look.nodes),
            "taken": sum(node.taken for node in look.nodes),
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
                last = self.samples[-1] if self.samples else None
                raise TimeoutError(f"{what} did not come within {patience_s:.0f} s; last seen: {last}")
            time.sleep(0.1)


def gpus(kind: str, count: int) -> Any:
    """Whether a look shows owners of a kind with so many GPUs."""
    return lambda look: sum(u.resources.get("GPU", 0.0) for u in look.uses if u.owner.kind == kind) == count


def endpoint() -> Any:
    """Deploy an endpoint whose replicas hold a GPU each and come and go by Serve's autoscaler; its handle."""
    from ray import serve

    # A proxy on every node would keep a node for half a minute after its last replica.
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": 0})

    @serve.deployment(
        name="Model",
        autoscaling_config=SCALE,
        max_ongoing_requests=4,
        ray_actor_options={"num_cpus": 0, "num_gpus": 1},
    )
    class Model:
        def __call__(self) -> str:
            time.sleep(ANSWER_S)
            return "yes"

    return serve.run(Model.bind(), name="assistant", route_prefix="/assistant")


def prepare(tasks: int) -> list[Any]:
    """Start CPU work of some seconds, on the CPU group alone: else Ray starts GPU nodes for what is over."""
    import ray

    remote: Any = ray.remote(num_cpus=2, label_selector={"rayplat.group": "cpu"})(_prepare)
    return [remote.remote() for _ in range(tasks)]


def _prepare() -> None:
    time.sleep(2.0)


def cycle(watching: Watching, training: Training, handle: Any, chance: random.Random) -> Callers:
    """CPU work comes; the training takes all GPUs, gives some to an endpoint, has them again, and stops."""
    import ray

    work = prepare(6)
    training.begin()
    watching.wait_for("GPUs for the training", lambda _: training.world() == MOST)
    time.sleep(chance.uniform(0, 2))
    wanted = chance.choice([1, 2])
    callers = Callers(handle, 2 * wanted)
    watching.wait_for("GPUs for the replicas", gpus("endpoint", wanted))
    time.sleep(chance.uniform(3, 6))
    callers.stop()
    watching.wait_for("the end of the replicas", gpus("endpoint", 0))
    watching.wait_for("the training with all its GPUs again", lambda _: training.world() == MOST)
    time.sleep(chance.uniform(1, 3))
    training.end()
    ray.get(work)
    return callers


def last_rate(settings: Settings) -> float:
    """What runs at the end, USD an hour; the recorder may need a moment to write the last end down."""
    from datetime import UTC, datetime

    from rayplat.cost.accounts import Accounts

    deadline = time.monotonic() + 15
    with Accounts(settings) as accounts:
        while (rate := accounts.rate(datetime.now(UTC)) / 1e9) > HEAD_USD and time.monotonic() < deadline:
            time.sleep(0.5)
    return rate


class Ingest:
    """A stream that goes on all day, and the ingest that follows it."""

    def __init__(self, settings: Settings, bootstrap: str, chance: random.Random) -> None:
        from tests.data.worlds import departures

        from rayplat.data.lakehouse.catalog import Lakehouse
        from rayplat.data.streaming.service import IngestService

        self._bootstrap = bootstrap
        self._chance = chance
        self._lake = Lakehouse(settings)
        with_broker = {"kafka": KafkaSettings(bootstrap=bootstrap), "ingest": IngestSettings(trigger_s=0.5)}
        self._service = IngestService(self._lake, settings.model_copy(update=with_broker), EventBus())
        self._over = threading.Event()
        self.produced = 0
        threading.Thread(target=self._service.feed, args=([departures()],), daemon=True).start()
        self._telling = threading.Thread(target=self._tell, daemon=True)
        self._telling.start()

    def _tell(self) -> None:
        from tests.data.worlds import mixture, produce

        while not self._over.wait(1.0):
            values = mixture(100, self._chance.randrange(10**6))
            produce(self._bootstrap, "departures", 0, values)
            self.produced += len(values)

    def end(self) -> int:
        """No more comes; how many records were taken in once it had its time."""
        from tests.data.worlds import TABLE
        from tests.faults.ingested import committed

        self._over.set()
        self._telling.join()
        deadline = time.monotonic() + 30
        while committed(self._lake, TABLE).get("0") != self.produced and time.monotonic() < deadline:
            time.sleep(0.1)
        taken_in = committed(self._lake, TABLE).get("0", 0)
        self._service.stop()
        return int(taken_in)


def main(home: Path, seed: int, cycles: int) -> dict[str, Any]:
    from rayplat.data.streaming.development.mock_cluster import MockCluster

    chance = random.Random(seed)
    home.mkdir(parents=True, exist_ok=True)
    (home / "platform.yaml").write_text(SPEC.format(seed=seed))
    settings = settings_of(home)
    info = up(settings)
    connect(settings)
    watching = Watching(info.address, settings)
    watching.start()
    training = Training(home)
    calls: list[Callers] = []
    with MockCluster() as broker:
        broker.create("departures", 1)
        ingest = Ingest(settings, broker.bootstrap, random.Random(seed))
        # Where else it came to run, it would keep that node from ever being idle.
        watching.wait_for(
            "the ingest on the head", lambda look: any(u.owner.kind == "ingest" for u in look.uses)
        )
        handle = endpoint()
        try:
            for turn in range(cycles):
                if turn:
                    time.sleep(chance.uniform(4, 14))  # some pauses are longer than the idle timeout
                calls.append(cycle(watching, training, handle, chance))
        finally:
            training.kill()
        left_s = watching.wait_for("the end of the idle nodes", lambda look: len(look.alive) == 1)
        taken_in = ingest.end()
    watching.over.set()
    watching.join()
    return {
        "seed": seed,
        "samples": watching.samples,
        "trainings": training.told,
        "given_back": sum(one["given_back"] for one in training.told),
        "steps": training.steps(),
        "answered": sum(one.answered for one in calls),
        "failed": sum(one.failed for one in calls),
        "idle_nodes_left_s": round(left_s, 2),
        "produced": ingest.produced,
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
        if (place / "training.log").exists():
            print((place / "training.log").read_text()[-1500:], file=sys.stderr)
        traceback.print_exc()
        code = 1
    finally:
        sys.stderr.flush()
        disconnect()  # Ray's client ends the process when the cluster that it is connected to ends
        down(Settings(home=place))
        os._exit(code)

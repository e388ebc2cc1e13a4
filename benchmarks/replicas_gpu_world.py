"""An endpoint whose replicas hold a GPU each, on a cluster that has none yet: from zero to zero on new nodes.

Run: python benchmarks/replicas_gpu_world.py HOME — prints a line of JSON: samples, what became of requests.

The nodes are simulated, under Ray's own autoscaler. 3 callers come at once, then 1, then none; who is told
to ask again (503 with Retry-After) does so, as `rayplat.serve.client`. A sample has the callers, the replicas
that answer (and the standbys that stand in), the GPU nodes, and the 99th percentile of the last half second.
"""

import json
import os
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from replicas_world import Load, free_port, states, tells_its_process, until

from rayplat.cluster.observe import Observer
from rayplat.cluster.session import connect, down, up
from rayplat.core.settings import Settings

SPEC = """
name: replicas
groups:
  head: {kind: head, cpus: 4, memory_gib: 8}
  gpu: {kind: gpu, accelerator: L4, gpus: 1, cpus: 2, memory_gib: 8, max: 3}
prices:
  own:
    head: {on_demand: 0.20}
    gpu: {on_demand: 1.00}
local:
  simulate: true
  cpus: 4
  speedups: {idle_timeout_s: 4, autoscaler_s: 1}
"""
MOST, BUSY = 3, 3
LOOK_S = 0.25


class Watching(threading.Thread):
    """Samples of replicas, nodes and answers."""

    def __init__(self, settings: Settings, address: str, load: Load) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.samples: list[dict[str, Any]] = []
        self.begin = time.time()
        self.callers = 0
        self._settings = settings
        self._load = load
        self._observer = Observer(address)

    def nodes(self) -> int:
        return sum(node.group == "gpu" for node in self._observer.look().alive)

    def run(self) -> None:
        from rayplat.serve.replicas.actor import keeper_tells

        while not self.over.wait(LOOK_S):
            seen = keeper_tells(self._settings)["buys"]
            recent = [one for one in self._load.times if time.time() - one["at"] < 1.0]
            self.samples.append(
                {
                    "at": round(time.time() - self.begin, 2),
                    "callers": self.callers,
                    "replicas": seen["replicas"],
                    "bridges": seen["bridges"],
                    "held": seen["held"],
                    "target": seen["target"],
                    "nodes": self.nodes(),
                    "p99_s": max((one["p99"] for one in recent), default=None),
                }
            )


def settings_of(home: Path) -> Settings:
    """The settings of the platform of one run."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "platform.yaml").write_text(SPEC)
    return Settings.model_validate(
        {
            "home": home,
            "ray": {"spec": str(home / "platform.yaml"), "object_store_mib": 128},
            "serve": {"port": 0, "front_port": free_port(), "log_sync": "process"},
        }
    )


def main(home: Path) -> dict[str, Any]:
    from dataclasses import replace

    from rayplat.core.events import EventBus
    from rayplat.core.project.serving import Answering, Autoscale
    from rayplat.serve.app import deploy
    from rayplat.serve.replicas.actor import end_keeper, keeper_tells

    settings = settings_of(home)
    info = up(settings)
    connect(settings)
    world = tells_its_process(settings)
    endpoint = replace(
        world.project.endpoints[0],
        autoscale=Autoscale(0, MOST, cpus=0.1, gpus=1, ongoing=1.2, calm_s=2.0, idle_s=3.0),
        answering=Answering(timeout_s=60),
    )
    deploy(settings, world.project, endpoint, world.registry, EventBus())
    url = f"http://127.0.0.1:{settings.serve.front_port}/v1/endpoints/buys/predict"
    load = Load(url, json.dumps({"instances": [{"shop": "north", "amount": 0.5}]}).encode())
    watching = Watching(settings, info.address, load)

    def nothing_left() -> bool:
        return states("buys") == {} and watching.nodes() == 0

    until(nothing_left)
    until(lambda: keeper_tells(settings)["buys"]["standbys"] == 1)
    watching.begin = time.time()
    watching.start()
    time.sleep(2.0)
    begun = load.become(BUSY)
    watching.callers = BUSY
    first_s = load.wait("process")["at"] - begun
    until(lambda: keeper_tells(settings)["buys"]["replicas"] == MOST)
    all_s = time.time() - begun
    time.sleep(5.0)
    load.become(1)
    watching.callers = 1
    until(lambda: states("buys") == {"RUNNING": 1})
    time.sleep(3.0)
    load.become(0)
    watching.callers = 0
    until(nothing_left)
    time.sleep(1.0)
    watching.over.set()
    watching.join()
    told = load.end()
    end_keeper(settings)
    return {
        "samples": watching.samples,
        "first_s": first_s,
        "all_s": all_s,
        "answered": told["answered"],
        "failed": told["failed"],
        "again": told["again"],
        "failures": load.failures[:3],
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    place, code = Path(sys.argv[1]), 0
    try:
        print(json.dumps(main(place)), flush=True)
    except Exception:
        traceback.print_exc()
        code = 1
    finally:
        down(Settings(home=place))
        sys.stderr.flush()
        os._exit(code)

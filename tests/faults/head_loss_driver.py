"""A platform under ingest, training and serving at once, whose control store is killed; prints what came.

Run: python head_loss_driver.py HOME SEED KILLS — one line of JSON at the end: what was acknowledged, and what
is there.
"""

import faulthandler
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from rayplat.cluster.head import read_head, recorded_head
from rayplat.cluster.session import connect, disconnect, down, up
from rayplat.core.errors import RayplatError
from rayplat.core.events import EventBus
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings

PAUSE_S = 0.05
BATCH = 200


class Asking(threading.Thread):
    """Asks an endpoint without a pause, and remembers each acknowledged prediction and each failure."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.over = url, threading.Event()
        self.answered: list[str] = []
        self.failures: list[str] = []
        self.longest_s = 0.0

    def run(self) -> None:
        from rayplat.serve.client import predict
        from tests.serve.test_deploy import AT

        with httpx.Client() as http:
            while not self.over.is_set():
                begin = time.perf_counter()
                try:
                    said = predict(self.url, [{"shop": "north", "amount": 0.5}], AT, http=http)
                    self.answered += [one["id"] for one in said["predictions"]]
                except RayplatError as error:
                    self.failures.append(error.what)
                self.longest_s = max(self.longest_s, time.perf_counter() - begin)
                time.sleep(PAUSE_S)


class Killing(threading.Thread):
    """Kills the control store again and again, and waits each time until it leads the same cluster again."""

    def __init__(self, settings: Settings, chance: random.Random, kills: int) -> None:
        super().__init__(daemon=True)
        self.settings, self.chance, self.left = settings, chance, kills
        self.healed_s: list[float] = []
        self.address = ""

    def run(self) -> None:
        from rayplat.cluster.observe import Observer

        for _ in range(self.left):
            time.sleep(self.chance.uniform(1.0, 4.0))
            head = recorded_head(self.settings)
            assert head is not None
            begin = time.perf_counter()
            os.kill(head.pid, signal.SIGKILL)
            while True:
                healed = read_head(self.settings)
                try:
                    assert healed is not None
                    observer = Observer(healed.address)
                    observer.look()
                    observer.close()
                    break
                except RayplatError:
                    time.sleep(0.1)
            assert healed.address == head.address
            assert healed.pid != head.pid
            self.healed_s.append(time.perf_counter() - begin)


def main(home: Path, seed: int, kills: int) -> dict[str, Any]:
    from rayplat.core.project.load import load_project
    from rayplat.data.streaming.development.mock_cluster import MockCluster
    from rayplat.data.streaming.service import IngestService
    from rayplat.serve.app import deploy, undeploy
    from rayplat.serve.prediction_log import PredictionLog
    from rayplat.train.trainer import train_model
    from tests.data.worlds import departures, mixture, produce, received
    from tests.faults.ingested import check_contents, committed, finish, told
    from tests.serve.world import make_world
    from tests.train.test_trainer import Bench

    chance = random.Random(seed)
    settings = Settings.model_validate(
        {"home": home, "ray": {"cpus": 8, "object_store_mib": 128}, "serve": {"port": 0}}
    )
    up(settings)
    connect(settings)
    world = make_world(home, settings)
    world.crown(world.register())
    endpoint = world.project.endpoints[0]
    asking = Asking(deploy(settings, world.project, endpoint, world.registry, EventBus()).url)
    bench = Bench(home / "bench")
    bench.ask("slow")
    # Loaded before the threads start: what else is imported meanwhile must not be looked through.
    project = load_project(str(bench.folder / "clicks.py"))
    outcomes: list[Any] = []

    def train() -> None:
        model = replace(project.models[0], workers=(1, 1))
        parts = (bench.settings, project, model, bench.rows, bench.registry, EventBus())
        outcomes.append(train_model(*parts, lambda text, _: bench.notes.append(text)))

    training = threading.Thread(target=train, daemon=True)
    with MockCluster() as cluster:
        cluster.create("departures", 2)
        kafka = {
            "kafka": KafkaSettings(bootstrap=cluster.bootstrap),
            "ingest": IngestSettings(batch_rows=BATCH, trigger_s=0.1),
        }
        lake = world.lake
        service = IngestService(lake, settings.model_copy(update=kafka), EventBus())
        ingest = threading.Thread(target=service.feed, args=([departures()],), daemon=True)
        killing = Killing(settings, chance, kills)
        for one in (asking, training, ingest, killing):
            one.start()
        counts = {0: 0, 1: 0}

        def tell(partition: int) -> None:
            values = mixture(BATCH, chance.randrange(10**6))
            produce(cluster.bootstrap, "departures", partition, values)
            counts[partition] += len(values)

        partition = 0
        while killing.is_alive():
            tell(partition)
            partition = 1 - partition
            time.sleep(0.5)
        before = len(asking.answered)
        tell(0)
        tell(1)
        training.join(120)
        deadline = time.monotonic() + 60
        while committed(lake, "raw.departures") != {str(p): n for p, n in counts.items()}:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        alone = committed(lake, "raw.departures")
        asking.over.set()
        asking.join()
        service.stop()
        ingest.join(60)
        finish(lake, cluster.bootstrap)
        received(lake).check(counts)
        check_contents(lake, told(cluster.bootstrap))
    undeploy(settings, endpoint)
    PredictionLog(settings).drain(lake, settings, EventBus())
    logged = set(lake.table("serving.predictions").read(["prediction_id"])["prediction_id"].to_pylist())
    disconnect()
    return {
        "answered": len(asking.answered),
        "answered_after_the_last_kill": len(asking.answered) - before,
        "failures": asking.failures,
        "longest_s": round(asking.longest_s, 3),
        "lost_predictions": len(set(asking.answered) - logged),
        "received": sum(counts.values()),
        "committed_before_the_end": sum(alone.values()),
        "trained": [outcome.version for outcome in outcomes],
        "renewed": len([note for note in bench.notes if "is reserved anew" in note]),
        "last_notes": bench.notes[-3:],
        "healed_s": [round(one, 2) for one in killing.healed_s],
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    faulthandler.dump_traceback_later(400, exit=True)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    place = Path(sys.argv[1])
    code = 0
    try:
        print(json.dumps(main(place, int(sys.argv[2]), int(sys.argv[3]))), flush=True)
    except Exception:  # Ray's own hook would report it to the cluster, which ends here
        traceback.print_exc()
        code = 1
    finally:
        down(Settings(home=place))
        sys.stderr.flush()
        os._exit(code)

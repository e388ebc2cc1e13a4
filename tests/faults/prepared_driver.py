"""Trains with prepared rows on a cluster that grows from one fake GPU to three and loses a worker.

Run: python prepared_driver.py FOLDER — a line of JSON at the end: the groups' sizes, the losses of workers,
what was told, and the nodes without a GPU. FOLDER has the project, and training.json beside it.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from rayplat.train.elastic.controller import Outcome
from rayplat.train.group import GroupSpec, run_group
from rayplat.train.worker import WorkerTask
from tests.faults.test_training_kill import ROWS, hold, lines_of
from tests.train.elastic.processes import InMemory

WITHIN_S = 150.0


class Training(threading.Thread):
    """The run, until it is over."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        rows: Any = InMemory(ROWS)
        self.task = WorkerTask(str(folder / "recorded.py"), "recorded", rows, f"file://{folder}/run", 1)
        self.told: list[str] = []
        self.outcome: Outcome | None = None

    def run(self) -> None:
        def progress(text: str, share: float | None) -> None:
            self.told.append(text)

        self.outcome = run_group(GroupSpec(1, 3, gpus=1.0), self.task, progress)


def until(what: str, holds: Any, training: Training) -> None:
    end = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > end or not training.is_alive():
            raise SystemExit(f"{what} did not come; {training.told}")
        time.sleep(0.05)


def slowly(folder: Path, first: int, last: int) -> None:
    """A step a second: the streams of a new group have begun meanwhile."""
    for step in range(first, last + 1):
        hold(folder, step)
        time.sleep(1.0)


def world_is(folder: Path, world: int) -> bool:
    newest = lines_of(folder)[-1:]
    return bool(newest) and newest[0].world == world


def main(folder: Path) -> None:
    # Paths of sockets are short: not under the folder.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1, num_gpus=1)
    plain = cluster.add_node(num_cpus=2)
    ray.init(cluster.address, log_to_driver=False)
    try:
        training = Training(folder)
        hold(folder, 6)
        training.start()
        until("one worker", lambda: world_is(folder, 1), training)
        cluster.add_node(num_cpus=2, num_gpus=2)
        until("three workers", lambda: world_is(folder, 3), training)
        slowly(folder, 7, 20)
        until("the twentieth step", lambda: any(line.step >= 19 for line in lines_of(folder)), training)
        os.kill(lines_of(folder)[-1].pid, signal.SIGKILL)
        until("two workers", lambda: any(line.world == 2 for line in lines_of(folder)), training)
        slowly(folder, 21, 34)
        hold(folder, 10**9)
        training.join(WITHIN_S)
        assert training.outcome is not None, training.told
        worlds, losses = training.outcome.worlds, training.outcome.losses
        node = plain.node_id
        print(json.dumps({"worlds": worlds, "losses": losses, "told": training.told, "plain": node}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A project whose training goes wrong as faults.json beside it asks for."""

import contextlib
import json
import math
import resource
import time
from pathlib import Path

import polars as pl
import psutil
import torch

import rayplat as rp
from rayplat.train.loop import fit
from rayplat.train.tabular import TabularNet

HERE = Path(__file__).parent
ASKED = json.loads(file.read_text()) if (file := HERE / "faults.json").exists() else {}
ROW_BYTES = 4 << 20

failing = rp.Project("failing", owner="tests@example.com")
visits = failing.table(
    "raw.visits",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "a": "float64", "b": "float64", "c": "float64"},
)
outcomes = failing.table(
    "raw.outcomes",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "clicked": "bool"},
)
own = failing.request_view(
    "own",
    source=visits,
    features={"a": pl.col("a"), "b": pl.col("b"), "c": pl.col("c"), "d": pl.col("a") * 2},
)


def network(inputs: int) -> torch.nn.Module:
    return TabularNet(inputs, hidden=(16, 8))


def training() -> rp.Training:
    spec = dict(ASKED.get("training", {}))
    spec["on_failure"] = rp.OnFailure(**spec.get("on_failure", {}))
    spec["checkpoints"] = rp.Keep(**spec.get("checkpoints", {}))
    return rp.Training(**spec)


@failing.model(
    "failing",
    rows=visits,
    label=rp.Label(outcomes, pl.col("clicked"), on="visit"),
    features=[own],
    train_until="2013-02-01",
    test_until="2013-03-01",
    network=network,
    workers=(1, 2),
    seed=3,
    training=training(),
)
def train(run: rp.TrainRun) -> None:
    take = run.step

    def step(network, optimizer, batch, losses):
        return take(network, optimizer, batch, faulty(run, losses))

    run.step = step
    fit(run, epochs=3, batch_size=64, lr=0.01)


def faulty(run, losses):
    def of(network, x, y):
        with (HERE / f"rows-{run.rank}.txt").open("a") as file:
            file.write(f"{run.live.step} {len(x)}\n")
        time.sleep(ASKED.get("sleep_s", 0.0))
        if run.live.step == ASKED.get("hang_at") and once(f"hung-{run.rank}", run.rank == 1):
            time.sleep(1000)
        if "rows_in_memory" in ASKED:
            with memory_for(ASKED["rows_in_memory"]):
                torch.empty(len(x) * ROW_BYTES, dtype=torch.uint8)
        if "full_disk" in ASKED:
            fill_disk(*ASKED["full_disk"], run.live.step)
        values = losses(network, x, y)
        return values * math.nan if run.live.step in ASKED.get("nan_at", ()) else values

    return of


@contextlib.contextmanager
def memory_for(rows):
    """This process may get memory for about so many rows, from the kernel, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (size + (rows + 1) * ROW_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fill_disk(first, last, step):
    """From the first to before the last step, this process can write small files only."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048 if first <= step < last else hard, hard))


def once(name, asked):
    if not asked or (HERE / name).exists():
        return False
    (HERE / name).touch()
    return True

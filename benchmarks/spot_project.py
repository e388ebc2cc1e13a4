"""What the spot and the recovery benchmark train: steps that take their time, and are written down when done.

A step takes the time of its work, shared by the workers there are; or, where `step_s` beside this file says
so, always as long.
"""

import os
import time
from pathlib import Path

import polars as pl

import rayplat as rp
from rayplat.train.loop import fit
from rayplat.train.tabular import TabularNet

WORK_S, BATCH = 0.1, 64
"""Seconds of one worker for a global batch: two workers take half as long."""

spot = rp.Project("spot", owner="benchmarks@example.com")
visits = spot.table(
    "raw.visits",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "a": "float64"},
)
outcomes = spot.table(
    "raw.outcomes",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "clicked": "bool"},
)
own = spot.request_view("own", source=visits, features={"a": pl.col("a"), "b": pl.col("a") * 2})


def network(inputs: int) -> object:
    return TabularNet(inputs, hidden=(64, 32))


@spot.model(
    "spot",
    rows=visits,
    label=rp.Label(outcomes, pl.col("clicked"), on="visit"),
    features=[own],
    train_until="2013-02-01",
    test_until="2013-03-01",
    network=network,
    workers=(1, 2),
)
def train(run: rp.TrainRun) -> None:
    batches = run.epoch_batches
    here = Path(__file__).parent
    epochs = int((here / "epochs").read_text())
    always = here / "step_s"
    step_s = float(always.read_text()) if always.exists() else WORK_S / run.world_size
    own = (here / f"steps-{os.getpid()}.txt").open("a", buffering=1)
    file = (here / "steps").open("a", buffering=1)

    def watched(epoch, batch_size):
        begun = time.perf_counter()
        for batch in batches(epoch, batch_size):
            time.sleep(max(0.0, step_s - (time.perf_counter() - begun)))
            begun = time.perf_counter()
            yield batch
            own.write(f"{time.time()} {run.live.step} {run.rank} {run.world_size} {os.getpid()}\n")
            if run.rank == 0:
                file.write(f"{time.time()} {run.live.step} {run.world_size}\n")

    run.epoch_batches = watched
    fit(run, epochs=epochs, batch_size=BATCH)

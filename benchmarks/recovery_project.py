"""What the recovery benchmark trains: a step of 50 ms that writes down when it was done."""

import os
import time
from pathlib import Path

import polars as pl

import rayplat as rp
from rayplat.train.loop import fit
from rayplat.train.tabular import TabularNet

STEP_S, BATCH, EPOCHS = 0.05, 64, 1000

recovery = rp.Project("recovery", owner="benchmarks@example.com")
visits = recovery.table(
    "raw.visits",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "a": "float64"},
)
outcomes = recovery.table(
    "raw.outcomes",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "clicked": "bool"},
)
own = recovery.request_view("own", source=visits, features={"a": pl.col("a"), "b": pl.col("a") * 2})


def network(inputs: int) -> object:
    return TabularNet(inputs, hidden=(64, 32))


@recovery.model(
    "recovery",
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
    file = (Path(__file__).parent / f"steps-{os.getpid()}.txt").open("a", buffering=1)

    def watched(epoch, batch_size):
        begun = time.perf_counter()
        for batch in batches(epoch, batch_size):
            time.sleep(max(0.0, STEP_S - (time.perf_counter() - begun)))
            begun = time.perf_counter()
            yield batch
            file.write(f"{time.time()} {run.live.step} {run.rank} {run.world_size} {os.getpid()}\n")

    run.epoch_batches = watched
    fit(run, epochs=EPOCHS, batch_size=BATCH)

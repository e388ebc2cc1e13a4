"""A small project: whether a synthetic visitor clicks. Faults are asked for by files in FAULTS."""

import os
import signal
import time
from pathlib import Path

import polars as pl
import torch

import rayplat as rp
from rayplat.train.loop import fit
from rayplat.train.tabular import TabularNet

FAULTS = Path(__file__).parent / "faults"

clicks = rp.Project("clicks", owner="tests@example.com")
visits = clicks.table(
    "raw.visits",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "a": "float64", "b": "float64", "c": "float64"},
)
outcomes = clicks.table(
    "raw.outcomes",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "clicked": "bool"},
)
own = clicks.request_view(
    "own",
    source=visits,
    features={"a": pl.col("a"), "b": pl.col("b"), "c": pl.col("c"), "d": pl.col("a") * 2},
)


def network(inputs: int) -> torch.nn.Module:
    return TabularNet(inputs, hidden=(16, 8))


@clicks.model(
    "click",
    rows=visits,
    label=rp.Label(outcomes, pl.col("clicked"), on="visit"),
    features=[own],
    train_until="2013-02-01",
    test_until="2013-03-01",
    network=network,
    workers=(1, 2),
    seed=3,
)
def train(run: rp.TrainRun) -> None:
    batches = run.epoch_batches

    def watched(epoch, batch_size):
        for at, batch in enumerate(batches(epoch, batch_size)):
            if at == 5:
                fault(f"kill-worker-{run.rank}-epoch-{epoch}")
            if (FAULTS / "slow").exists():
                time.sleep(0.05)
            yield batch

    run.epoch_batches = watched
    if (FAULTS / "poison").exists():
        poison()
    fit(run, epochs=4, batch_size=64, lr=0.01)


def poison() -> None:
    raise ZeroDivisionError("the well is poisoned")


def fault(name: str) -> None:
    """Kill this worker if a file of that name asks for it; once, since the file goes first."""
    try:
        (FAULTS / name).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

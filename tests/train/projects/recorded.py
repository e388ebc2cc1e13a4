"""A project whose training writes down which rows each step of each worker has, and takes its time.

It is trained as training.json beside it says.
"""

import json
import os
import time
from pathlib import Path

import polars as pl
import torch

import rayplat as rp
from rayplat.train.layout import is_sharded
from rayplat.train.loop import fit
from rayplat.train.tabular import TabularNet

HERE = Path(__file__).parent
EPOCHS, BATCH = 3, 64
ASKED = json.loads(file.read_text()) if (file := HERE / "training.json").exists() else {}

recorded = rp.Project("recorded", owner="tests@example.com")
visits = recorded.table(
    "raw.visits",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "a": "float64", "b": "float64", "c": "float64"},
)
outcomes = recorded.table(
    "raw.outcomes",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "clicked": "bool"},
)
own = recorded.request_view(
    "own",
    source=visits,
    features={"a": pl.col("a"), "b": pl.col("b"), "c": pl.col("c"), "d": pl.col("a") * 2},
)


def network(inputs: int) -> torch.nn.Module:
    return TabularNet(inputs, hidden=(16, 8))


def jittered(rows):
    """Noise on the first input; who prepared how many rows, and where, is written down."""
    import ray

    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
    with (HERE / f"prepared-{os.getpid()}.txt").open("a") as file:
        file.write(f"{os.getpid()} {node} {len(rows.x)}\n")
    x = rows.x.copy()
    x[:, 0] += rows.draws.normal(1)[:, 0]
    return x, rows.y


@recorded.model(
    "recorded",
    rows=visits,
    label=rp.Label(outcomes, pl.col("clicked"), on="visit"),
    features=[own],
    train_until="2013-02-01",
    test_until="2013-03-01",
    network=network,
    workers=(1, 3),
    seed=3,
    training=rp.Training(
        strategy=ASKED.get("strategy", "ddp"),
        checkpoints=rp.Keep(**ASKED.get("keep", {})),
        prepare=rp.Prepare(jittered, batches_a_task=4) if ASKED.get("prepare") else None,
    ),
)
def train(run: rp.TrainRun) -> None:
    batches, boundary = run.epoch_batches, run._boundary

    def watched(epoch, batch_size):
        for x, y in batches(epoch, batch_size):
            write(run, epoch, x)
            time.sleep(0.05)
            while run.live.step >= limit():
                if not is_sharded(run.network):  # all of its workers go through as many boundaries
                    boundary(run)
                time.sleep(0.02)
            yield x, y

    run.epoch_batches = watched
    fit(run, epochs=EPOCHS, batch_size=BATCH, lr=0.01)


def limit() -> int:
    """No step from this one on is taken yet: the test waits for something."""
    file = HERE / "limit"
    return int(file.read_text() or 0) if file.exists() else 10**9


def write(run: rp.TrainRun, epoch: int, x: torch.Tensor) -> None:
    """Which attempt of which step has which rows: a row is known by its second value's bits."""
    rows = ",".join(x[:, 1].numpy().view("uint32").astype(str))
    line = f"{time.monotonic_ns()} {run.live.step} {epoch} {run.rank} {run.world_size} {os.getpid()} {rows}\n"
    with (HERE / f"steps-{os.getpid()}.txt").open("a") as file:
        file.write(line)
    if run.prepared is not None:
        with (HERE / f"streamed-{os.getpid()}.txt").open("a") as file:
            file.write(f"{run.world_size} {run.prepared.streamed}\n")

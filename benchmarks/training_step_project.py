"""What the step benchmark trains: the same steps in turns by bare PyTorch, by Accelerate and by rayplat.

All three run in the same worker of a real group, on the same rows in the same order.
"""

import copy
import json
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

import rayplat as rp
from rayplat.train.goodput.spending import Spent
from rayplat.train.tabular import TabularNet

HERE = Path(__file__).parent
STEP_S, STARVED_EPOCHS = 0.005, 5
TURNS, REPORTS, BATCH = (
    json.loads((HERE / "sizes.json").read_text()) if (HERE / "sizes.json").exists() else (1, 1, 1)
)

bench = rp.Project("bench", owner="benchmarks@example.com")
visits = bench.table(
    "raw.visits",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "a": "float64"},
)
outcomes = bench.table(
    "raw.outcomes",
    key="visit",
    event_time="at",
    columns={"visit": "int64", "at": "timestamp", "clicked": "bool"},
)
own = bench.request_view("own", source=visits, features={"a": pl.col("a")})


def network(inputs: int) -> torch.nn.Module:
    return TabularNet(inputs)


def losses(model, x, y):
    return binary_cross_entropy_with_logits(model(x), y, reduction="none")


@bench.model(
    "bench",
    rows=visits,
    label=rp.Label(outcomes, pl.col("clicked"), on="visit"),
    features=[own],
    train_until="2013-02-01",
    test_until="2013-03-01",
    network=network,
    workers=(1, 1),
)
def train(run: rp.TrainRun) -> None:
    bare = copy.deepcopy(run.network)
    plain = torch.optim.AdamW(bare.parameters())
    wrapped = copy.deepcopy(run.network)
    hugging, its_optimizer = run.accelerator.prepare(wrapped, torch.optim.AdamW(wrapped.parameters()))
    model, optimizer = run.prepare(torch.optim.AdamW)

    def by_torch(epoch: int) -> None:
        for x, y in batches(run, epoch):
            loss = losses(bare, x, y).mean()
            plain.zero_grad()
            loss.backward()
            plain.step()

    def by_accelerate(epoch: int) -> None:
        for x, y in batches(run, epoch):
            loss = losses(hugging, x, y).mean()
            its_optimizer.zero_grad()
            run.accelerator.backward(loss)
            its_optimizer.step()

    def by_rayplat(epoch: int) -> None:
        for batch in run.epoch_batches(epoch, BATCH):
            run.step(model, optimizer, batch, losses)

    times = {"bare_torch": [], "accelerate": [], "rayplat": []}
    loops = {"bare_torch": by_torch, "accelerate": by_accelerate, "rayplat": by_rayplat}
    for turn in range(TURNS + 1):
        for at in range(3):
            name = list(loops)[(turn + at) % 3]
            begun = time.perf_counter()
            loops[name](turn)
            times[name].append(time.perf_counter() - begun)
    starved = input_waits(run, TURNS + 1)
    reports = []
    for epoch in range(REPORTS):
        run.note("next")
        begun = time.perf_counter()
        run.checkpoint(epoch, {"loss": 0.5}, optimizer)
        reports.append(time.perf_counter() - begun)
        time.sleep(0.05)
    steps = run.batches(BATCH)
    told = {name: [seconds / steps for seconds in taken[1:]] for name, taken in times.items()}
    (HERE / "told.json").write_text(json.dumps({"steps": told, "starved": starved, "reports": reports}))


def batches(run, epoch):
    """The rows in the order in which `run` has them."""
    data, order = run._rows, np.random.default_rng([run.seed, epoch]).permutation(run.rows)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    for batch in np.array_split(order, run.batches(BATCH)):
        at = torch.from_numpy(batch)
        yield x[at], y[at]


def input_waits(run, first):
    """By loop, the share of the time of steps of 5 ms that was spent waiting for rows, an epoch each."""
    data, work = run._rows, arithmetic()
    columns = {name: data.x_train[:, at].copy() for at, name in enumerate(data.inputs)}
    table = pa.table({**columns, "label": data.y_train})

    def by_pyarrow(epoch):
        order = np.random.default_rng([run.seed, epoch]).permutation(run.rows)
        for batch in np.array_split(order, run.batches(BATCH)):
            taken = table.take(pa.array(batch))
            x = np.stack([taken.column(name).to_numpy() for name in data.inputs], axis=1)
            yield torch.from_numpy(x), torch.from_numpy(taken["label"].to_numpy().copy())

    def waited(loop):
        own, begun, asked = 0.0, time.perf_counter(), time.perf_counter()
        for _ in loop:
            own += time.perf_counter() - asked
            work()
            asked = time.perf_counter()
        return own / (time.perf_counter() - begun)

    def accounted(epoch):
        before, begun = run.watch.spent().seconds(Spent.INPUT), time.perf_counter()
        for _ in run.epoch_batches(epoch, BATCH):
            work()
        return (run.watch.spent().seconds(Spent.INPUT) - before) / (time.perf_counter() - begun)

    shares = {"rayplat": [], "plain_torch": [], "pyarrow_torch": []}
    for epoch in range(first, first + STARVED_EPOCHS):
        shares["rayplat"].append(accounted(epoch))
        shares["plain_torch"].append(waited(batches(run, epoch)))
        shares["pyarrow_torch"].append(waited(by_pyarrow(epoch)))
    return shares


def arithmetic():
    """A step: as many matrix products as take 5 ms on one core."""
    x = torch.randn(256, 256)

    def rounds(count):
        for _ in range(count):
            torch.mm(x, x)

    def timed(count):
        begun = time.perf_counter()
        rounds(count)
        return time.perf_counter() - begun

    timed(50)
    count = max(1, round(200 * STEP_S / min(timed(200) for _ in range(3))))
    return lambda: rounds(count)

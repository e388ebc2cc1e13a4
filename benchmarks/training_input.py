"""How much of the time a step of 5 ms waits for its input, with rayplat's loader and its peers.

Run: .venv/bin/python benchmarks/training_input.py [--json] [--quick]

Rows of 15 float32 inputs in a random order of the epoch, global batches of 8,192, one rank. A step is 5 ms of
work (a matrix product, one thread). `input_starved_fraction` is the share of the time spent waiting for the
next batch. Peers: PyTorch's DataLoader over the same tensors (a batch sampler, no workers and one worker
process), and plain pyarrow -> torch without a thread (`take`, then columns to a tensor), which tells whether
plain pyarrow can keep up at all. `input_rows_per_s` is each of them without steps; its limit is one memcpy of
the same bytes.
"""

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from harness import Claim, interleave, main

ROWS, WIDTH, BATCH = 2_000_000, 15, 8192
STEP_S = 0.005
INPUTS = [f"f{n}" for n in range(WIDTH)]

Batches = Callable[[int], Iterator[Any]]


class Candidates:
    """The same rows in the same order by each of them."""

    def __init__(self, folder: Path, rows: int) -> None:
        from rayplat.train.input.loader import InputLoader
        from rayplat.train.input.matrix import RowMatrix
        from rayplat.train.input.order import SampleOrder

        random = np.random.default_rng(0)
        columns = {name: random.normal(size=rows).astype(np.float32) for name in INPUTS}
        self._table = pa.table({**columns, "label": random.integers(0, 2, rows).astype(np.float32)})
        memory = RowMatrix.of_table(self._table, INPUTS, "label")
        memory.write(folder / "rows.arrow")
        self._order = SampleOrder(rows, BATCH, seed=1)
        mapped = RowMatrix.map(folder / "rows.arrow")
        self.loaders = {
            "ours": InputLoader(memory, self._order),
            "ours_mapped": InputLoader(mapped, self._order),
        }
        self._x, self._y = memory.take(np.arange(rows))

    def all(self) -> dict[str, Batches]:
        """By name, what gives an epoch's batches."""
        return {
            "ours": self.loaders["ours"].batches,
            "ours_mapped": self.loaders["ours_mapped"].batches,
            "pyarrow_torch": self.pyarrow,
            "torch_dataloader": lambda epoch: self.dataloader(epoch, 0),
            "torch_dataloader_worker": lambda epoch: self.dataloader(epoch, 1),
        }

    def pyarrow(self, epoch: int) -> Iterator[Any]:
        order = self._order.permutation(epoch)
        for batch in range(self._order.batches):
            taken = self._table.take(pa.array(self._order.share(order, batch, 0, 1)))
            columns = [taken.column(name).to_numpy() for name in INPUTS]
            yield torch.from_numpy(np.stack(columns, axis=1)), torch.from_numpy(taken["label"].to_numpy())

    def dataloader(self, epoch: int, workers: int) -> Iterator[Any]:
        from torch.utils.data import DataLoader, Dataset

        x, y = self._x, self._y

        class Whole(Dataset[Any]):
            """Takes a whole batch by its row numbers."""

            def __getitem__(self, rows: Any) -> Any:
                return x[rows], y[rows]

        order = torch.from_numpy(self._order.permutation(epoch))
        return iter(
            DataLoader(Whole(), sampler=list(order.split(BATCH)), batch_size=None, num_workers=workers)
        )


def steps(batches: Iterator[Any], work: Callable[[], None], most: int) -> float:
    """The share of the time of `most` steps that was spent waiting, after the first batch."""
    next(batches)
    waited, begin, done = 0.0, time.perf_counter(), 0
    while done < most:
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        work()
        done += 1
    share = waited / (time.perf_counter() - begin)
    close = getattr(batches, "close", None)
    if close is not None:
        close()
    return share


def rate(batches: Iterator[Any]) -> float:
    """Rows a second without steps."""
    begin, rows = time.perf_counter(), 0
    for x, _ in batches:
        rows += len(x)
    return rows / (time.perf_counter() - begin)


def five_milliseconds() -> Callable[[], None]:
    """A step: a matrix product of so many rounds that it takes 5 ms on one core."""
    x = torch.randn(256, 256)

    def rounds(count: int) -> None:
        for _ in range(count):
            torch.mm(x, x)

    def timed(count: int) -> float:
        begin = time.perf_counter()
        rounds(count)
        return time.perf_counter() - begin

    timed(50)
    count = max(1, round(200 * STEP_S / median(timed(200) for _ in range(3))))
    return lambda: rounds(count)


def memcpy_rate() -> float:
    """Rows a second of one copy of their bytes."""
    x = torch.ones(BATCH * 16, WIDTH + 1)
    to = torch.zeros_like(x)
    begin = time.perf_counter()
    for _ in range(20):
        to.copy_(x)
    return 20 * len(x) / (time.perf_counter() - begin)


def measure(quick: bool) -> list[Claim]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    runs, most = (3, 100) if quick else (7, 200)
    with tempfile.TemporaryDirectory(prefix="rayplat-input-") as made:
        candidates = Candidates(Path(made), ROWS)
        work, all_ = five_milliseconds(), candidates.all()
        starved = interleave(
            {name: (lambda b=batches: steps(b(0), work, most)) for name, batches in all_.items()}, runs
        )
        rates = interleave(
            {name: (lambda b=batches: rate(b(0))) for name, batches in all_.items()}, max(2, runs // 2)
        )
    return [
        Claim(
            "input_starved_fraction",
            "share",
            starved.pop("ours"),
            starved,
            note="steps of 5 ms, batches of 8,192 x 15",
        ),
        Claim(
            "input_rows_per_s",
            "rows/s",
            rates.pop("ours"),
            rates,
            higher_is_better=True,
            limit=memcpy_rate(),
            note="without steps; limit: memcpy",
        ),
    ]


if __name__ == "__main__":
    main(measure, __doc__ or "")

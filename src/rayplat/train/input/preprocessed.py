"""Batches that Ray Data prepares on other nodes while this one trains, in the same order.

Knows how the batches of an epoch are cut into portions, each a task of a streaming dataset, and that they
come back in order; it does not know what the preparation does. A portion holds this rank's slices of a few
consecutive batches, so what a rank gets is a function of (seed, epoch, step, rank, world), as without Ray: no
split of a stream between ranks, whose shares depend on timing, and no new beginning after a resize.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rayplat.core.errors import BugError
from rayplat.train.input.order import SampleOrder

Prepare = Callable[[pa.Table], pa.Table]
_BATCH = "rayplat_batch"


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is prepared, and how.

    Attributes:
        read: gives rows by their numbers, int64, as a table in that order; travels to the tasks.
        prepare: turns a table into one with as many rows in the same order, each from its own row alone: how
            many workers there are decides which rows come together.
        batches_a_task: consecutive batches in one task.
        cpus: of each task.
    """

    read: Callable[[np.ndarray[Any, Any]], pa.Table]
    prepare: Prepare
    batches_a_task: int = 16
    cpus: float = 1.0


def prepared_batches(
    preparation: Preparation, order: SampleOrder, *, epoch: int, first: int, rank: int, world: int
) -> Iterator[pa.Table]:
    """This rank's slices of an epoch's batches, from one on, prepared by tasks on the cluster.

    Ray must be connected. Close the iterator when a generation of workers ends; the next one begins at its
    own step, with its own rank and world size.

    Raises:
        BugError: tables did not come back in their order, or with other rows than asked for.
    """
    import ray.data

    size = max(1, preparation.batches_a_task)
    portions = [(at, min(at + size, order.batches)) for at in range(first, order.batches, size)]
    if not portions:
        return
    task = _Task(preparation, order, epoch, rank, world)
    dataset: Any = ray.data.from_items(
        [{"begin": begin, "end": end} for begin, end in portions], override_num_blocks=len(portions)
    )
    dataset.context.execution_options.preserve_order = True
    dataset = dataset.map_batches(
        task, batch_size=None, batch_format="pyarrow", num_cpus=preparation.cpus, zero_copy_batch=True
    )
    expected, permutation = first, order.permutation(epoch)
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
        numbers = table.column(_BATCH).to_numpy()
        for batch in np.unique(numbers).tolist():
            while expected < batch and not len(order.share(permutation, expected, rank, world)):
                yield table.drop_columns([_BATCH]).slice(0, 0)
                expected += 1
            begin, end = np.searchsorted(numbers, [batch, batch + 1]).tolist()
            due = len(order.share(permutation, batch, rank, world))
            if batch != expected or end - begin != due:
                raise BugError(
                    f"batch {batch} came with {end - begin} rows, when {expected} was due with {due}"
                )
            yield table.drop_columns([_BATCH]).slice(begin, end - begin)
            expected += 1


@dataclass(frozen=True, slots=True)
class _Task:
    """One portion after the other, wherever Ray runs it."""

    preparation: Preparation
    order: SampleOrder
    epoch: int
    rank: int
    world: int

    def __call__(self, portions: pa.Table) -> pa.Table:
        permutation = self.order.permutation(self.epoch)
        spans = zip(portions["begin"].to_pylist(), portions["end"].to_pylist(), strict=True)
        batches = [batch for begin, end in spans for batch in range(begin, end)]
        shares = [self.order.share(permutation, batch, self.rank, self.world) for batch in batches]
        rows = np.concatenate(shares)
        table = self.preparation.prepare(self.preparation.read(rows))
        if table.num_rows != len(rows):
            raise BugError(f"the preparation made {table.num_rows} rows of {len(rows)}")
        numbers = np.repeat(np.array(batches, dtype=np.int64), [len(share) for share in shares])
        return table.append_column(_BATCH, pa.array(numbers))

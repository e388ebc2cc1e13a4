"""Batches that Ray Data prepares on other nodes while this one trains, in the same order.

Knows how the batches of an epoch are cut into portions, each a task of a streaming dataset, and that they
come back in order; it does not know what the preparation does. A portion holds this rank's slices of a few
consecutive batches, so what a rank gets is a function of (seed, epoch, step, rank, world), as without Ray: no
split of a stream between ranks, whose shares depend on timing, and no new beginning after a resize.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rayplat.core.errors import BugError
from rayplat.train.input.order import SampleOrder

Prepare = Callable[[pa.Table], pa.Table]
EPOCH = "rayplat_epoch"
_BATCH = "rayplat_batch"


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is prepared, and how.

    Attributes:
        read: gives rows by their numbers, int64, as a table in that order; travels to the tasks.
        prepare: turns a table into one with as many rows in the same order, each from its own row alone: how
            many workers there are decides which rows come together. A column `rayplat_epoch` tells the epoch.
        batches_a_task: consecutive batches in one task.
        cpus: of each task.
        tasks: how many run at once, at most; None: as many as there is room for.
        ahead_mib: what is prepared and not taken yet fills no more of the object store than this; None: as
            much as Ray Data thinks fit.
    """

    read: Callable[[np.ndarray[Any, Any]], pa.Table]
    prepare: Prepare
    batches_a_task: int = 16
    cpus: float = 1.0
    tasks: int | None = None
    ahead_mib: int | None = None


def prepared_batches(
    preparation: Preparation,
    order: SampleOrder,
    *,
    epoch: int,
    first: int,
    rank: int,
    world: int,
    count: int | None = None,
) -> Iterator[pa.Table]:
    """This rank's slices of batches, from one of an epoch on, prepared by tasks on the cluster.

    Ray must be connected. Close the iterator when a generation of workers ends; the next one begins at its
    own step, with its own rank and world size.

    Args:
        count: of the batches, also over epochs; None: to the end of this one.

    Raises:
        BugError: tables did not come back in their order, or with other rows than asked for.
    """
    at = epoch * order.batches + first
    last = (epoch + 1) * order.batches if count is None else at + count
    portions = _portions(order, at, last, max(1, preparation.batches_a_task))
    if not portions:
        return
    dataset = _dataset(preparation, portions, _Task(preparation, order, rank, world))
    tables = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
    yield from _cut(tables, at, last, lambda batch: _due(order, batch, rank, world))


def _dataset(preparation: Preparation, portions: list[tuple[int, int, int]], task: "_Task") -> Any:
    """The portions, prepared by one task each."""
    import ray.data

    dataset: Any = ray.data.from_items(
        [{"epoch": of, "begin": begin, "end": end} for of, begin, end in portions],
        override_num_blocks=len(portions),
    )
    _bound(dataset.context, preparation)
    return dataset.map_batches(
        task,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=preparation.cpus,
        compute=ray.data.TaskPoolStrategy(size=preparation.tasks),
        zero_copy_batch=True,
        # Spread over all nodes, as Ray Data does by itself, they would compute on those with GPUs, too.
        scheduling_strategy="DEFAULT",
    )


def _cut(tables: Iterable[pa.Table], first: int, last: int, due: Callable[[int], int]) -> Iterator[pa.Table]:
    """Tables of consecutive batches, cut into one a batch; one without rows where none are due.

    Raises:
        BugError: they are not in their order, or have other rows than are due.
    """
    expected, plain = first, None
    for table in tables:
        numbers = table.column(_BATCH).to_numpy()
        plain = table.drop_columns([name for name in (_BATCH, EPOCH) if name in table.column_names])
        for batch in np.unique(numbers).tolist():
            while expected < batch and not due(expected):
                yield plain.slice(0, 0)
                expected += 1
            begin, end = np.searchsorted(numbers, [batch, batch + 1]).tolist()
            rows = due(batch)
            if batch != expected or end - begin != rows:
                raise BugError(
                    f"batch {batch} came with {end - begin} rows, when {expected} was due with {rows}"
                )
            yield plain.slice(begin, end - begin)
            expected += 1
    while plain is not None and expected < last and not due(expected):
        yield plain.slice(0, 0)
        expected += 1


def _portions(order: SampleOrder, begin: int, end: int, size: int) -> list[tuple[int, int, int]]:
    """(epoch, first batch, the one after the last) of batches counted over all epochs, each in one epoch."""
    found = []
    while begin < end:
        epoch, first = order.place(begin)
        last = min(first + size, order.batches, first + end - begin)
        found.append((epoch, first, last))
        begin += last - first
    return found


def _due(order: SampleOrder, at: int, rank: int, world: int) -> int:
    """How many rows a rank has in a batch, counted over all epochs."""
    epoch, batch = order.place(at)
    return len(order.share(order.permutation(epoch), batch, rank, world))


def _bound(context: Any, preparation: Preparation) -> None:
    from ray.data import ExecutionResources

    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    if preparation.ahead_mib is not None:
        context.execution_options.resource_limits = ExecutionResources.for_limits(
            object_store_memory=preparation.ahead_mib * 2**20
        )


@dataclass(frozen=True, slots=True)
class _Task:
    """One portion after the other, wherever Ray runs it."""

    preparation: Preparation
    order: SampleOrder
    rank: int
    world: int

    def __call__(self, portions: pa.Table) -> pa.Table:
        return pa.concat_tables([self._prepared(**portion) for portion in portions.to_pylist()])

    def _prepared(self, epoch: int, begin: int, end: int) -> pa.Table:
        permutation, batches = self.order.permutation(epoch), range(begin, end)
        shares = [self.order.share(permutation, batch, self.rank, self.world) for batch in batches]
        rows = np.concatenate(shares)
        asked = self.preparation.read(rows).append_column(
            EPOCH, pa.array(np.full(len(rows), epoch, dtype=np.int64))
        )
        table = self.preparation.prepare(asked)
        if table.num_rows != len(rows):
            raise BugError(f"the preparation made {table.num_rows} rows of {len(rows)}")
        counted = np.array(batches, dtype=np.int64) + epoch * self.order.batches
        numbers = np.repeat(counted, [len(share) for share in shares])
        return table.append_column(_BATCH, pa.array(numbers))

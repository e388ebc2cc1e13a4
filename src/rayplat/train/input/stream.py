"""A worker's stream of prepared batches: a dataset of Ray Data, read by a thread.

Knows that a dataset which waits for room in the cluster cannot be interrupted, so its thread is left behind
and ends with what comes next; it does not know when a stream is wanted (`prepared`).
"""

import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from rayplat.core.errors import NotFoundError, UnavailableError
from rayplat.core.project.load import load_project
from rayplat.core.project.training import Prepare
from rayplat.train.input.draws import Draws
from rayplat.train.input.order import SampleOrder
from rayplat.train.input.prepared import PrepareRows, RowBatch, prepare_rows, table_of
from rayplat.train.input.preprocessed import EPOCH, Preparation, prepared_batches
from rayplat.train.rows import Rows

_READY = 8
"""So many batches wait in the worker; what else is ready stays in the object store."""
_TASKS = 128
"""A dataset takes some time to begin, and to name its tasks: it has so many, also over epochs."""
_LOOK_S = 0.1
_NUMBER = "number"


@dataclass(frozen=True, slots=True)
class StoredRows:
    """The training rows in the object store: a node has them once, and its tasks read them there."""

    x: Any
    y: Any

    def __call__(self, numbers: np.ndarray[Any, Any]) -> pa.Table:
        """Some rows, with their numbers."""
        import ray

        x, y = ray.get([self.x, self.y])
        return table_of(x[numbers], y[numbers]).append_column(_NUMBER, pa.array(numbers))


@dataclass(frozen=True, slots=True)
class DeclaredPreparation:
    """The preparation that a project declares for a model, wherever it is called."""

    project: str
    model: str
    inputs: tuple[str, ...]
    seed: int

    def __call__(self, table: pa.Table) -> pa.Table:
        """Prepared rows, in the order in which they came."""
        lists, numbers = table.column("x").combine_chunks(), table.column(_NUMBER).to_numpy()
        x = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(self.inputs))
        draws = Draws(self.seed, table.column(EPOCH)[0].as_py() if len(table) else 0, numbers)
        batch = RowBatch(x, table.column("y").to_numpy(), self.inputs, draws)
        return table_of(*prepare_rows(_declared(self.project, self.model), batch))


@lru_cache(maxsize=4)
def _declared(project: str, model: str) -> PrepareRows:
    for one in load_project(project).models:
        if one.name == model and one.training.prepare is not None:
            return one.training.prepare.rows
    raise NotFoundError(f"project {project!r} declares no preparation for {model!r}", "declare it")


class RayStream:
    """Batches of an iterator, read ahead by a thread.

    Args:
        begin: gives the iterator, in the thread.
        first, end: the number of its first batch, and of the one after its last.
    """

    def __init__(self, begin: Callable[[], Iterator[pa.Table]], first: int, end: int) -> None:
        self._ready: queue.Queue[pa.Table | BaseException] = queue.Queue(_READY)
        self._next, self._end = first, end
        self._closed = threading.Event()
        self._failed: UnavailableError | None = None
        self._thread = threading.Thread(target=self._read, args=(begin,), name="prepared", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its dataset has not ended."""
        return self._thread.is_alive()

    def covers(self, at: int) -> bool:
        """Whether a batch is still to come from it."""
        return self._next <= at < self._end

    def get(self, at: int, timeout_s: float) -> pa.Table | None:
        """A batch; those before it are dropped. None where it is not there within so long.

        Raises:
            UnavailableError: the tasks failed.
        """
        if self._failed is not None:
            raise self._failed
        try:
            while True:
                item = self._ready.get(timeout=timeout_s) if timeout_s > 0 else self._ready.get_nowait()
                if isinstance(item, BaseException):
                    self._failed = UnavailableError(
                        f"preparing rows on other nodes failed ({item})", "look at Ray's log"
                    )
                    raise self._failed from None
                number, self._next = self._next, self._next + 1
                if number >= at:
                    return item
        except queue.Empty:
            return None

    def close(self) -> None:
        """Nobody wants any more. The thread goes with the next batch, and is not waited for."""
        self._closed.set()

    def _read(self, begin: Callable[[], Iterator[pa.Table]]) -> None:
        try:
            with closing(_generated(begin)) as batches:
                for table in batches:
                    if not self._put(table):
                        return
        # Whatever it is, the worker goes on without the stream, and says why.
        except BaseException as error:
            self._put(error)

    def _put(self, item: pa.Table | BaseException) -> bool:
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=_LOOK_S)
            except queue.Full:
                continue
            return True
        return False


def _generated(begin: Callable[[], Iterator[pa.Table]]) -> Generator[pa.Table]:
    yield from begin()


class Streams:
    """The streams of one worker's process, one after the other, over the same stored rows.

    Args:
        project: its address.
        model: the model's name.
        rows: the training rows; they are stored when the first stream begins.
        prepare: as the model declares it.
        seed: of the run.
    """

    def __init__(self, project: str, model: str, rows: Rows, prepare: Prepare, seed: int) -> None:
        self._project, self._model = project, model
        self._rows, self._prepare, self._seed = rows, prepare, seed
        self._stored: StoredRows | None = None
        self._newest: RayStream | None = None

    def begin(self, order: SampleOrder, at: int, rank: int, world: int) -> RayStream | None:
        """A stream of a rank's slices of batches, from one on, counted over all epochs.

        Returns:
            None where Ray is not connected, or where an earlier stream waits for room in the cluster still: a
            further one would only wait behind it.
        """
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return None
        if self._newest is not None and self._newest.alive:
            return None
        preparation = DeclaredPreparation(self._project, self._model, self._rows.inputs, self._seed)
        epoch, first = order.place(at)
        count = _TASKS * self._prepare.batches_a_task

        def batches() -> Iterator[pa.Table]:
            if self._stored is None:
                self._stored = StoredRows(ray.put(self._rows.x_train), ray.put(self._rows.y_train))
            work = Preparation(
                self._stored,
                preparation,
                batches_a_task=self._prepare.batches_a_task,
                cpus=self._prepare.cpus,
                tasks=self._prepare.tasks,
                ahead_mib=self._prepare.ahead_mib,
            )
            return prepared_batches(
                work, order, epoch=epoch, first=first, rank=rank, world=world, count=count
            )

        self._newest = RayStream(batches, at, at + count)
        return self._newest

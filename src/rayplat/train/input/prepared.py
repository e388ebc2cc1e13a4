"""Rows as the project's preparation makes them, batch after batch: whoever has a batch first gives it.

Knows when a batch is taken from the tasks on other nodes (`stream`) and when it is prepared here; it does not
know how tasks run (`preprocessed`). A prepared row is a function of (row, seed, epoch), so it does not matter
who prepared it: a group that begins again, or has no node for its tasks, does not wait for them.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from rayplat.core.errors import RayplatError, UserError
from rayplat.train.input.draws import Draws
from rayplat.train.input.loader import Batch, Rows
from rayplat.train.input.order import SampleOrder

PATIENCE_S = 5.0
"""So long a batch is waited for whose stream has begun; then it is prepared here."""
_LOOK_S = 0.05
_AGAIN_S, _AFTER_FAILURE_S = 1.0, 30.0
"""So long after a stream was asked for in vain, or has failed, one is asked for again."""
X, Y = "x", "y"


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Some training rows, as a preparation gets them.

    Attributes:
        x: float32 [n, inputs], NaN where a value is missing; not to be written to.
        y: float32 [n].
        inputs: the names of the columns of x.
        draws: random numbers of each row.
    """

    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    inputs: tuple[str, ...]
    draws: Draws


PrepareRows = Callable[[RowBatch], tuple[Any, Any]]


def prepare_rows(prepare: PrepareRows, batch: RowBatch) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What the project's function makes of some rows.

    Raises:
        UserError: other shapes came back than went in.
    """
    x, y = prepare(batch)
    x, y = np.ascontiguousarray(x, dtype=np.float32), np.ascontiguousarray(y, dtype=np.float32)
    if x.shape != batch.x.shape or y.shape != batch.y.shape:
        raise UserError(
            f"the preparation made x {x.shape} and y {y.shape} of x {batch.x.shape} and y {batch.y.shape}",
            "give both in the shapes in which they came",
        )
    return x, y


class BatchStream(Protocol):
    """Prepared batches in their order, counted over all epochs, from another node."""

    def covers(self, at: int) -> bool:
        """Whether a batch is still to come from it."""

    def get(self, at: int, timeout_s: float) -> pa.Table | None:
        """A batch, with columns `x` and `y`; those before it are dropped. None where it is not there yet.

        Raises:
            RayplatError: no more will come.
        """

    def close(self) -> None:
        """Nobody wants any more; does not wait for anything."""


BeginStream = Callable[[int], BatchStream | None]
"""Begins a stream, from a batch on; None where there can be none."""


class PreparedInput:
    """One rank's prepared batches.

    Args:
        rows: as they are in the training set.
        prepare: the project's function.
        inputs: the names of the inputs.
        order: which rows a step has.
        begin: begins a stream; None: all is prepared here.
        note: is told once where no stream comes.

    Attributes:
        here, streamed: how many batches were prepared in this process, and by others.
    """

    def __init__(  # noqa: PLR0917  # what decides a prepared row, in order
        self,
        rows: Rows,
        prepare: PrepareRows,
        inputs: tuple[str, ...],
        order: SampleOrder,
        begin: BeginStream | None = None,
        note: Callable[[str], None] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._rows, self._prepare = rows, prepare
        self._inputs, self._order = inputs, order
        self._begin, self._note = begin, note
        self._patience_s = patience_s
        self._stream: BatchStream | None = None
        self._flowing = False
        self._again = 0.0
        self._left = threading.Event()
        self.here = self.streamed = 0

    def begin(self) -> None:
        """Batches are wanted again. A stream that has them still to come goes on."""
        self._left.clear()

    def take(self, epoch: int, batch: int, numbers: np.ndarray[Any, Any], *, pinned: bool = False) -> Batch:
        """A rank's slice of a batch, prepared.

        Args:
            numbers: of its rows, in order.
            pinned: whether a GPU is to copy from it.
        """
        table = self._streamed(epoch * self._order.batches + batch)
        if table is None:
            self.here += 1
            x, y = self._prepared_here(epoch, numbers)
        else:
            self.streamed += 1
            x, y = matrices(table)
        return _as_tensor(x, pinned=pinned), _as_tensor(y, pinned=pinned)

    def leave(self) -> None:
        """Nobody waits for a batch any more; the thread that does gets one that is prepared here."""
        self._left.set()

    def close(self) -> None:
        """Let the stream go."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _streamed(self, at: int) -> pa.Table | None:
        """A batch from the stream. Before it flows nobody waits for it; from then on, for a while."""
        stream = self._stream_with(at)
        if stream is None:
            return None
        until = time.monotonic() + (self._patience_s if self._flowing else 0.0)
        try:
            while True:
                rest = until - time.monotonic()
                table = stream.get(at, min(max(rest, 0.0), _LOOK_S))
                if table is not None:
                    self._flowing = True
                    return table
                if rest <= 0 or self._left.is_set():
                    break
        except RayplatError as error:
            self._tell(f"the worker prepares its rows itself: {error.what}")
            self.close()
            self._again = time.monotonic() + _AFTER_FAILURE_S
            return None
        if self._flowing and not self._left.is_set():
            self._tell(f"no prepared rows came for {self._patience_s:.0f} s: the worker prepares them itself")
        self._flowing = False
        return None

    def _stream_with(self, at: int) -> BatchStream | None:
        """The stream that has a batch, begun where there is none; None where there can be none now."""
        if self._stream is not None and not self._stream.covers(at):
            self.close()
        now = time.monotonic()
        if self._stream is None and self._begin is not None and now >= self._again:
            self._again, self._flowing = now + _AGAIN_S, False
            self._stream = self._begin(at)
        return self._stream

    def _prepared_here(self, epoch: int, numbers: np.ndarray[Any, Any]) -> tuple[Any, Any]:
        x, y = self._rows.take(numbers)
        draws = Draws(self._order.seed, epoch, numbers)
        return prepare_rows(self._prepare, RowBatch(x.numpy(), y.numpy(), self._inputs, draws))

    def _tell(self, text: str) -> None:
        if self._note is not None:
            self._note(text)
            self._note = None


def table_of(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> pa.Table:
    """Prepared rows as they travel."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
    return pa.table({X: lists, Y: pa.array(y)})


def matrices(table: pa.Table) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What `table_of` was made of."""
    lists = table.column(X).combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # a table without rows may have no chunk
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    width = lists.type.list_size
    x = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return x, table.column(Y).to_numpy()


def _as_tensor(values: np.ndarray[Any, Any], *, pinned: bool) -> torch.Tensor:
    tensor = torch.empty(values.shape, dtype=torch.float32, pin_memory=pinned)
    tensor.numpy()[...] = values
    return tensor

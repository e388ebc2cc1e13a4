"""Batches ahead of need: a thread gathers the next ones while a step computes.

Knows how far ahead it reads and how long training had to wait; it does not know how rows are stored
(`matrix`, `preprocessed`) or what a step does.
"""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from rayplat.core.errors import UserError
from rayplat.train.input.order import SampleOrder

_AHEAD = 4
_LOOK_S = 0.001

Batch = tuple[torch.Tensor, torch.Tensor]


class Rows(Protocol):
    """Where rows come from."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, rows: np.ndarray[Any, Any], *, pinned: bool = False) -> Batch:
        """Copies of some rows, in this order."""


class Prepared(Protocol):
    """Rows as a preparation makes them, by batch."""

    def begin(self) -> None:
        """Batches are wanted."""

    def take(self, epoch: int, batch: int, numbers: np.ndarray[Any, Any], *, pinned: bool = False) -> Batch:
        """A batch's rows of those numbers, in this order."""

    def leave(self) -> None:
        """Whoever waits for a batch is not to wait any more."""

    def close(self) -> None:
        """No batch is wanted any more, of no epoch."""


@dataclass(slots=True)
class Waiting:
    """How long training waited for input, s, over how many batches."""

    seconds: float = 0.0
    batches: int = 0

    def fraction(self, wall_s: float) -> float:
        """The share of the wall time in which training was starved."""
        return self.seconds / wall_s if wall_s > 0 else 0.0


class InputLoader:
    """One rank's slices of the global batches.

    Args:
        rows: as many as `order` says.
        order: which rows a step has.
        rank, world: of this process; neither changes what a global batch holds.
        device: where batches are to be; a GPU's are copied from pinned memory.
        ahead: how many batches wait ready, at most.
        prepared: gives the batches in the place of `rows`.
    """

    def __init__(  # noqa: PLR0917  # what decides a batch, in order
        self,
        rows: Rows,
        order: SampleOrder,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        ahead: int = _AHEAD,
        prepared: Prepared | None = None,
    ) -> None:
        if len(rows) != order.rows:
            raise UserError(
                f"there are {len(rows)} rows, and the order is of {order.rows}", "give it as many"
            )
        if not 0 <= rank < world or ahead < 1:
            raise UserError(f"rank {rank} of {world}, {ahead} ahead", "give 0 <= rank < world, ahead >= 1")
        self._rows, self._order = rows, order
        self._rank, self._world = rank, world
        self._device, self._ahead = torch.device(device), ahead
        self._prepared = prepared
        self.waiting = Waiting()
        self._kept: tuple[tuple[int, int], Batch] | None = None

    def batches(self, epoch: int, first: int = 0) -> Generator[Batch]:
        """The slices of an epoch's batches from one on; each row of the epoch comes to one rank, once.

        Yields:
            x float32 [b, inputs] and y float32 [b]; b can be 0 where there are more ranks than rows.
        """
        begin = time.perf_counter()
        kept, self._kept = self._kept, None
        batch = kept[1] if kept is not None and kept[0] == (epoch, first) else None
        rest = first if batch is None else first + 1
        at = first
        if self._prepared is not None:
            self._prepared.begin()
        try:
            with closing(_Ahead(self._gather(epoch, rest), self._ahead)) as ahead, self._left():
                while True:
                    if batch is None:
                        batch = ahead.next()
                    self.waiting.seconds += time.perf_counter() - begin
                    if batch is None:
                        return
                    self.waiting.batches += 1
                    at += 1
                    yield self._moved(batch)
                    batch, begin = None, time.perf_counter()
        finally:
            # What is prepared of the next epoch is for a loop that has come to the end of this one.
            if at < self._order.batches:
                self.close()

    def close(self) -> None:
        """No batch is wanted any more."""
        if self._prepared is not None:
            self._prepared.close()

    @contextmanager
    def _left(self) -> Iterator[None]:
        """However the body is left, the thread waits for no batch then."""
        try:
            yield
        finally:
            if self._prepared is not None:
                self._prepared.leave()

    def _take(self, epoch: int, at: int, mine: np.ndarray[Any, Any], *, pinned: bool) -> Batch:
        if self._prepared is None:
            return self._rows.take(mine, pinned=pinned)
        return self._prepared.take(epoch, at, mine, pinned=pinned)

    def _gather(self, epoch: int, first: int) -> Iterator[Batch]:
        permutation = self._order.permutation(epoch)
        pinned = self._device.type == "cuda"
        for at in range(first, self._order.batches):
            mine = self._order.share(permutation, at, self._rank, self._world)
            yield self._take(epoch, at, mine, pinned=pinned)
        # While the last steps compute: the next epoch begins with it, when the thread is not there yet.
        mine = self._order.share(self._order.permutation(epoch + 1), 0, self._rank, self._world)
        self._kept = (epoch + 1, 0), self._take(epoch + 1, 0, mine, pinned=pinned)

    def _moved(self, batch: Batch) -> Batch:
        if self._device.type == "cpu":  # even a copy that is none would hand the interpreter over
            return batch
        x, y = batch
        return x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)


class _Ahead:
    """Runs an iterator in a thread, a few items ahead of who takes them.

    The thread looks now and then whether there is room, rather than being woken: to wake it would be most of
    what a step waits for, every step.
    """

    def __init__(self, items: Iterator[Batch], ahead: int) -> None:
        self._ready: queue.SimpleQueue[Batch | BaseException | None] = queue.SimpleQueue()
        self._stop = False
        self._most = ahead
        self._thread = threading.Thread(target=self._run, args=(items,), name="input", daemon=True)
        self._thread.start()

    def next(self) -> Batch | None:
        """The next item, None at the end; raises what the iterator raised."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Let the thread go; what it has ready is dropped."""
        self._stop = True
        self._thread.join()

    def _run(self, items: Iterator[Batch]) -> None:
        try:
            for item in items:
                self._ready.put(item)
                while self._ready.qsize() >= self._most and not self._stop:
                    time.sleep(_LOOK_S)
                if self._stop:
                    return
            self._ready.put(None)
        # Whatever it is, it is raised again in the thread that takes batches.
        except BaseException as error:
            self._ready.put(error)

"""The training run as a project's function sees it on each worker.

Knows the rows, the network, the order of the samples and the checkpoints of one run; it does not
know who started the workers (`trainer`), who they are now (`elastic`) or how a loop goes (`loop`).

The result does not depend on the number of workers but for the order of float additions: the order
of samples is a function of (seed, epoch); a global batch is cut into one slice a rank, without
padding; and `global_mean` weighs uneven slices, so that the averaged gradient is the global mean's.

The project's function may be called again in the same process, when a peer was lost or others joined:
each time with a new `TrainRun` over the same `LiveState`, whose `epoch_batches` go on at the next step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rayplat.core.errors import UserError
from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.live_state import LiveState
from rayplat.train.metrics import all_metrics
from rayplat.train.rows import Rows

_EVALUATION_ROWS = 8192


class Boundary(Protocol):
    """What happens between two steps; told by whoever runs the worker."""

    def __call__(self, run: "TrainRun") -> None:
        """Called before each step with the state whole; may raise to leave the project's function."""


def _nothing(metrics: Mapping[str, float]) -> None:
    """Nobody asked to hear of epochs."""


def _go_on(run: "TrainRun") -> None:
    """Nobody wants anything between two steps."""


class TrainRun:
    """What `train(run)` gets.

    Attributes:
        accelerator: Hugging Face Accelerate, set up for this worker's device and process group.
        network: built by the model's `network(len(inputs))`, seeded; on a resumed run it holds the
            weights of the last checkpoint.
        inputs: the names of the inputs, in order.
        seed: the model's seed.
        live: the state that a step changes, and how far the run is.
    """

    def __init__(
        self,
        *,
        rows: Rows,
        build: Callable[[int], nn.Module],
        seed: int,
        checkpoints: CheckpointFolder,
        accelerator: Accelerator,
        report: Callable[[Mapping[str, float]], None] = _nothing,
        live: LiveState | None = None,
        boundary: Boundary = _go_on,
    ) -> None:
        self.accelerator = accelerator
        self.inputs: Sequence[str] = rows.inputs
        self.seed = seed
        self.live = begin(build, rows, seed, checkpoints) if live is None else live
        self._rows = rows
        self._x, self._y = torch.from_numpy(rows.x_train), torch.from_numpy(rows.y_train)
        self._checkpoints = checkpoints
        self._report = report
        self._boundary = boundary
        self._global_rows = 0
        self._loss: tuple[Tensor, Any] | None = None
        self._order: tuple[int, np.ndarray[Any, Any]] | None = None

    @property
    def network(self) -> nn.Module:
        """The network itself, not wrapped."""
        return self.live.network

    @property
    def start_epoch(self) -> int:
        """The first epoch that is still to be ended by a checkpoint, from 0."""
        return self.live.epochs_done

    @property
    def history(self) -> dict[str, list[tuple[int, float]]]:
        """By curve, its points so far."""
        return self.live.history

    @property
    def world_size(self) -> int:
        """How many workers train."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """This worker's number, from 0."""
        return int(self.accelerator.process_index)

    @property
    def rows(self) -> int:
        """How many training rows there are, over all workers."""
        return len(self._y)

    def batches(self, batch_size: int) -> int:
        """How many global batches an epoch has: as few as hold every row with at most `batch_size`."""
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}", "give at least 1")
        return -(-self.rows // batch_size)

    def epoch_batches(self, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's slices of the epoch's global batches, from the first that is not done yet.

        Each row comes once an epoch, however often the group of workers changes within it. Global batches
        differ by one row at most, so the last one is no rest of a few rows. Random numbers drawn by the
        network (dropout) start anew each step, so that a step taken again draws the same.

        Yields:
            x float32 [b, inputs] with NaN where missing, and y float32 [b], on the worker's device. b can
            be 0 where a global batch has fewer rows than there are workers: take part in the step still.
        """
        live, device = self.live, self.accelerator.device
        if epoch > live.epoch:
            live.epoch, live.batch = epoch, 0
        batches = np.array_split(self._permutation(epoch), self.batches(batch_size))
        first = live.batch if epoch == live.epoch else len(batches)
        for at, batch in enumerate(batches[first:], first):
            self._boundary(self)
            step = live.step
            torch.manual_seed(_mixed(self.seed, epoch, at, self.rank))
            self._global_rows = len(batch)
            mine = torch.from_numpy(np.array_split(batch, self.world_size)[self.rank])
            yield self._x[mine].to(device), self._y[mine].to(device)
            if live.step == step:  # no optimizer of ours has told that the step is done
                self._finish_step()

    def _permutation(self, epoch: int) -> np.ndarray[Any, Any]:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return self._order[1]

    def note_loss(self, loss: Tensor) -> None:
        """Note the step's loss, as `global_mean` gave it; its mean over all ranks is a point of the curve.

        Call it before the backward pass: the one number travels while the gradients are computed. Every rank
        has the whole curve then, also of steps in which it was not there.
        """
        value = loss.detach().float().reshape(1).clone()
        work = None
        if self.world_size > 1:
            work = torch.distributed.all_reduce(value, async_op=True)
        self._loss = value, work
        self.live.keep(value, work)

    def _before_step(self, *_: Any) -> None:
        """The gradients of all ranks are in; a loss that is not in yet is waited for, so that a lost peer is
        noticed before anything changes."""
        if self._loss is not None and self._loss[1] is not None:
            self._loss[1].wait()
        self.live.changing = True

    def _finish_step(self, *_: Any) -> None:
        live = self.live
        if self._loss is not None:
            value, work = self._loss
            if work is not None:
                work.wait()
            mean = value / self.world_size
            # Reading a number off a GPU would wait for it: that can be done later.
            live.curve[live.step] = mean if mean.is_cuda else float(mean)
            self._loss = None
        live.step += 1
        live.batch += 1
        live.changing = False
        live.note_statistics()

    def global_mean(self, losses: Tensor) -> Tensor:
        """The loss to go backward from, given the losses of this rank's rows, one each.

        Distributed data parallel averages gradients over ranks; this sum, scaled by world size over
        global rows, makes that average the gradient of the mean over the global batch.
        """
        return losses.sum() * (self.world_size / max(self._global_rows, 1))

    def train_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each input over the training rows, missing values left out.

        Returns:
            Two float32 [inputs]; NaN where an input has no value at all.
        """
        x = self._rows.x_train.astype(np.float64)
        there = ~np.isnan(x)
        count = there.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(there, x, 0.0).sum(axis=0) / count
            std = np.sqrt(np.where(there, (x - mean) ** 2, 0.0).sum(axis=0) / count)
        return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(std.astype(np.float32))

    def train_quantiles(self, bins: int) -> Tensor:
        """Edges of `bins` quantile bins of each input over the training rows, missing values left out.

        Returns:
            float32 [inputs, bins + 1], ascending; NaN where an input has no value at all.
        """
        points = np.linspace(0.0, 1.0, bins + 1)
        edges = np.full((len(self.inputs), bins + 1), np.nan, dtype=np.float32)
        for column, values in enumerate(self._rows.x_train.T):
            there = values[~np.isnan(values)]
            if len(there):
                edges[column] = np.quantile(there, points)
        return torch.from_numpy(edges)

    def positive_rate(self) -> float:
        """The share of positives among the training rows."""
        return float(self._y.mean())

    def evaluate(self) -> dict[str, float]:
        """The metrics of the network on the test rows; every rank takes part and gets all of them."""
        return all_metrics(self._rows.y_test, self.test_probabilities())

    def test_probabilities(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The network's probability for each test row, in order; every rank takes part."""
        total = len(self._rows.y_test)
        share = -(-total // self.world_size)
        mine = torch.full((share,), 0.0, device=self.accelerator.device)
        start = min(self.rank * share, total)
        was_training = self.network.training
        self.network.eval()
        with torch.inference_mode():
            for at in range(start, min(start + share, total), _EVALUATION_ROWS):
                end = min(at + _EVALUATION_ROWS, start + share, total)
                x = torch.from_numpy(self._rows.x_test[at:end]).to(self.accelerator.device)
                mine[at - start : end - start] = torch.sigmoid(self.network(x).float())
        self.network.train(was_training)
        gathered: Tensor = self.accelerator.gather(mine)
        return gathered[:total].cpu().numpy()

    def restore(self, optimizer: Any) -> None:
        """Give an optimizer the state that it had when the run was left; nothing on a new run.

        From then on each of its steps is counted the moment it is done: whatever fails afterwards (an
        evaluation in which a peer is lost), the step is not taken twice.
        """
        state = self.live.optimizer_state
        if state is not None:
            optimizer.load_state_dict(state)
        self.live.optimizer, self.live.stored = optimizer, None
        inner = getattr(optimizer, "optimizer", optimizer)
        inner.register_step_pre_hook(self._before_step)
        inner.register_step_post_hook(self._finish_step)

    def checkpoint(
        self,
        epoch: int,
        metrics: Mapping[str, float],
        optimizer: Any = None,
        *,
        points: Mapping[str, Sequence[tuple[int, float]]] | None = None,
        of: int = 0,
    ) -> None:
        """Publish the state after an epoch; every rank calls it, rank 0 writes.

        Args:
            epoch: the epoch that is done, from 0.
            metrics: become curves by epoch, and are told to whoever follows the run.
            optimizer: whose state a resumed run needs.
            points: further points of curves (step, value), such as the loss by step.
            of: how many epochs there will be, for the progress shown.
        """
        for name, value in metrics.items():
            self.history.setdefault(name, []).append((epoch, float(value)))
        for name, extra in (points or {}).items():
            self.history.setdefault(name, []).extend((int(s), float(v)) for s, v in extra)
        live = self.live
        if optimizer is not None and live.optimizer is None:
            live.optimizer = optimizer
        live.epochs_done = epoch + 1
        self.save(of)
        self._report({"epoch": float(epoch), "of": float(of), **metrics})

    def save(self, of: int = 0) -> None:
        """Publish the state as it is between two steps: rank 0 writes; nobody waits for it."""
        if self.rank == 0:
            self._checkpoints.publish(self.live.as_checkpoint(of))


def begin(
    build: Callable[[int], nn.Module], rows: Rows, seed: int, checkpoints: CheckpointFolder
) -> LiveState:
    """The state of a run in a process that has none: of the newest checkpoint, or of the seeded beginning."""
    live = fresh(build, rows, seed)
    found = checkpoints.latest()
    if found is not None:
        live.take(found)
    return live


def fresh(build: Callable[[int], nn.Module], rows: Rows, seed: int) -> LiveState:
    """The state before the first step."""
    torch.manual_seed(seed)
    live = LiveState(build(len(rows.inputs)))
    live.note_statistics()
    return live


def _mixed(*numbers: int) -> int:
    """One seed of several, well mixed: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014) over each."""
    mixed = 0
    for number in numbers:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 1

"""The training run as a project's function sees it on each worker.

Knows the rows, the network, the order of the samples and the checkpoints of one run; it does not
know who started the workers (`trainer`) or how a loop goes (`loop`).

The result does not depend on the number of workers but for the order of float additions: the order
of samples is a function of (seed, epoch); a global batch is cut into one slice a rank, without
padding; and `global_mean` weighs uneven slices, so that the averaged gradient is the global mean's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rayplat.core.errors import UserError
from rayplat.train.checkpoint import Checkpoint, CheckpointFolder
from rayplat.train.metrics import all_metrics
from rayplat.train.rows import Rows

_EVALUATION_ROWS = 8192


def _nothing(metrics: Mapping[str, float]) -> None:
    """Nobody asked to hear of epochs."""


class TrainRun:
    """What `train(run)` gets.

    Attributes:
        accelerator: Hugging Face Accelerate, set up for this worker's device and process group.
        network: built by the model's `network(len(inputs))`, seeded; on a resumed run it holds the
            weights of the last checkpoint.
        inputs: the names of the inputs, in order.
        seed: the model's seed.
        start_epoch: the first epoch that is still to be done.
        history: by curve, its points so far.
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
    ) -> None:
        torch.manual_seed(seed)
        self.accelerator = accelerator
        self.inputs: Sequence[str] = rows.inputs
        self.seed = seed
        self.network = build(len(rows.inputs))
        self.start_epoch = 0
        self.history: dict[str, list[tuple[int, float]]] = {}
        self._rows = rows
        self._x, self._y = torch.from_numpy(rows.x_train), torch.from_numpy(rows.y_train)
        self._checkpoints = checkpoints
        self._report = report
        self._global_rows = 0
        self._optimizer_state: Mapping[str, Any] | None = None
        self._resume()

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
        """This rank's slices of the epoch's global batches.

        Each row comes once an epoch. Global batches differ by one row at most, so the last one is no
        rest of a few rows. Random numbers drawn by the network (dropout) start anew each epoch, so a
        resumed run draws the same.

        Yields:
            x float32 [b, inputs] with NaN where missing, and y float32 [b], on the worker's device. b can
            be 0 where a global batch has fewer rows than there are workers: take part in the step still.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        torch.manual_seed(int(np.random.default_rng([self.seed, epoch, self.rank]).integers(2**62)))
        device = self.accelerator.device
        for batch in np.array_split(order, self.batches(batch_size)):
            self._global_rows = len(batch)
            mine = torch.from_numpy(np.array_split(batch, self.world_size)[self.rank])
            yield self._x[mine].to(device), self._y[mine].to(device)

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
        """Give an optimizer the state it had at the last checkpoint; nothing on a new run."""
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)

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
        if self.rank == 0:
            state = None if optimizer is None else optimizer.state_dict()
            weights = self.network.state_dict()
            self._checkpoints.publish(Checkpoint(epoch, weights, state, self.history, of))
        self.accelerator.wait_for_everyone()
        self._report({"epoch": float(epoch), **metrics})

    def _resume(self) -> None:
        found = self._checkpoints.latest()
        if found is None:
            return
        self.network.load_state_dict(dict(found.weights))
        self._optimizer_state = found.optimizer
        self.history = {curve: list(points) for curve, points in found.history.items()}
        self.start_epoch = found.epoch + 1

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
from contextlib import closing
from typing import Any, Protocol

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn

from rayplat.core.errors import UserError
from rayplat.core.project.training import Training
from rayplat.train import layout
from rayplat.train.beginning import begin
from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.checkpoints.writer import SaveHandle
from rayplat.train.goodput.spending import Spent
from rayplat.train.goodput.stopwatch import Stopwatch
from rayplat.train.input.loader import InputLoader
from rayplat.train.input.matrix import RowMatrix
from rayplat.train.input.order import SampleOrder
from rayplat.train.input.prepared import PreparedInput
from rayplat.train.input.stream import Streams
from rayplat.train.keeping import Keeping
from rayplat.train.live_state import LiveState
from rayplat.train.loss import SharedLoss
from rayplat.train.metrics import all_metrics
from rayplat.train.predicting import probabilities
from rayplat.train.rows import Rows
from rayplat.train.seeds import seed_step
from rayplat.train.statistics import mean_and_std, quantiles
from rayplat.train.step import Losses, take_step


class Boundary(Protocol):
    """What happens between two steps; told by whoever runs the worker."""

    def __call__(self, run: "TrainRun") -> None:
        """Called before each step with the state whole; may raise to leave the project's function."""


def _nothing(metrics: Mapping[str, float]) -> None:
    """Nobody asked to hear of epochs."""


def _go_on(run: "TrainRun") -> None:
    """Nobody wants anything between two steps."""


def _unheard(text: str) -> None:
    """Nobody asked to hear of what happens."""


class TrainRun:
    """What `train(run)` gets.

    Attributes:
        accelerator: Hugging Face Accelerate, set up for this worker's device and process group.
        network: built by the model's `network(len(inputs))`, seeded; on a resumed run it holds the
            weights of the last checkpoint.
        inputs: the names of the inputs, in order.
        seed: the model's seed.
        live: the state that a step changes, and how far the run is.
        world_size: how many workers train.
        rank: this worker's number, from 0.
        training: how the model declares that it is trained.
        watch: this worker's account of its time.
        note: tells whoever follows the run of something in words.
        kept_uri: where batches that went wrong are kept.
        params: the values of a trial, or those that the study found best; empty where nothing is tuned.
        prepared: counts the batches that were prepared here, and by others; None where none are.
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
        training: Training | None = None,
        note: Callable[[str], None] = _unheard,
        watch: Stopwatch | None = None,
        kept_uri: str = "",
        furthest: int = 0,
        params: Mapping[str, Any] | None = None,
        streams: Streams | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.inputs: Sequence[str] = rows.inputs
        self.seed = seed
        self.live = begin(build, rows, seed, checkpoints) if live is None else live
        self._rows = rows
        self.prepared: PreparedInput | None = None
        self._matrix = RowMatrix(rows.x_train, rows.y_train)
        self._loader: tuple[SampleOrder, InputLoader] | None = None
        self._report = report
        self._boundary = boundary
        self._global_rows = 0
        self._loss: SharedLoss | None = None
        self.training = Training() if training is None else training
        self._streams, self._engine = streams, layout.has_engine(self.training, accelerator)
        self.note = note
        self.watch = Stopwatch() if watch is None else watch
        self.kept_uri = kept_uri or f"{checkpoints.uri}-kept-batches"
        self._furthest = furthest
        self.params: Mapping[str, Any] = dict(params or {})
        if self.live.micro_batch is None:
            self.live.micro_batch = self.training.micro_batch
        # Asked several times a step, and Accelerate makes a new object of its state for each answer.
        self.world_size, self.rank = int(accelerator.num_processes), int(accelerator.process_index)
        self._keeping = Keeping(checkpoints, self.rank, self.world_size, self.training.on_failure, note)

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
    def saved_step(self) -> int:
        """The step of the newest save that was begun; -1 before the first."""
        return self._keeping.newest

    @property
    def rows(self) -> int:
        """How many training rows there are, over all workers."""
        return len(self._matrix)

    def batches(self, batch_size: int) -> int:
        """How many global batches an epoch has: as few as hold every row with at most `batch_size`."""
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}", "give at least 1")
        return -(-self.rows // batch_size)

    def epoch_batches(self, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's slices of the epoch's global batches, from the first that is not done yet.

        Each row comes once an epoch, however often the group of workers changes within it. Global batches
        differ by one row at most, so the last one is no rest of a few rows. Random numbers drawn by the
        network (dropout) start anew each step, so that a step taken again draws the same. A thread gathers
        the next batches while a step computes; it ends with the iterator.

        Yields:
            x float32 [b, inputs] with NaN where missing, and y float32 [b], on the worker's device. b can
            be 0 where a global batch has fewer rows than there are workers: take part in the step still.
        """
        live = self.live
        if epoch > live.epoch:
            live.epoch, live.batch = epoch, 0
        order = SampleOrder(self.rows, batch_size, self.seed)
        first = live.batch if epoch == live.epoch else order.batches
        with closing(self._loader_of(order).batches(epoch, first)) as batches:
            for at in range(first, order.batches):
                self._between_steps()
                step = live.step
                seed_step(self.seed, epoch, at, self.rank)
                self._global_rows = order.size(at)
                self.watch.enter(Spent.INPUT)
                batch = next(batches)
                self.watch.begin_step()
                yield batch
                if live.step == step:  # no optimizer of ours has told that the step is done
                    self._finish_step()
                self.watch.end_step(counts=step >= self._furthest)

    def _loader_of(self, order: SampleOrder) -> InputLoader:
        """The same one for each epoch of an order: it has the next epoch's first batch ready."""
        if self._loader is None or self._loader[0] != order:
            self.prepared, device = self._prepared_in(order), self.accelerator.device
            given = self.rank, self.world_size, device
            loader = InputLoader(self._matrix, order, *given, prepared=self.prepared)
            self._loader = order, loader
        return self._loader[1]

    def _prepared_in(self, order: SampleOrder) -> PreparedInput | None:
        """The rows as the model's preparation makes them; None where it declares none."""
        prepare, streams = self.training.prepare, self._streams
        if prepare is None:
            return None

        def begin(at: int) -> Any:
            return streams and streams.begin(order, at, self.rank, self.world_size)

        return PreparedInput(self._matrix, prepare.rows, tuple(self.inputs), order, begin, self.note)

    def _between_steps(self) -> None:
        live, every = self.live, self.training.checkpoints.every_steps
        self._keeping.look()
        if every and live.step and live.step % every == 0 and live.step != self.saved_step:
            self.save()
        self._boundary(self)

    def note_loss(self, loss: Tensor) -> None:
        """Note the step's loss, as `global_mean` gave it; its mean over all ranks is a point of the curve.

        Call it before the backward pass: the one number travels while the gradients are computed. Every rank
        has the whole curve then, also of steps in which it was not there.
        """
        self._loss = SharedLoss(loss, self.world_size)
        self.live.keep(self._loss)

    def loss(self) -> float:
        """The step's mean loss over all workers, as far as it was noted; waits for it."""
        return 0.0 if self._loss is None else self._loss.mean()

    def drop_loss(self) -> None:
        """What was noted of this step does not count."""
        self._loss = None

    def _before_step(self, *_: Any) -> None:
        """The gradients of all ranks are in; a loss that is not in yet is waited for, so that a lost peer is
        noticed before anything changes."""
        if self._loss is not None:
            self._loss.wait()
        self.live.changing = True

    def _finish_step(self, *_: Any) -> None:
        live = self.live
        if self._loss is not None:
            live.curve[live.step] = self._loss.mean()
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
        return mean_and_std(self._rows.x_train)

    def train_quantiles(self, bins: int) -> Tensor:
        """Edges of `bins` quantile bins of each input over the training rows, missing values left out.

        Returns:
            float32 [inputs, bins + 1], ascending; NaN where an input has no value at all.
        """
        return quantiles(self._rows.x_train, bins)

    def positive_rate(self) -> float:
        """The share of positives among the training rows."""
        return float(self._rows.y_train.mean())

    def evaluate(self) -> dict[str, float]:
        """The metrics of the network on the test rows; every rank takes part and gets all of them."""
        return all_metrics(self._rows.y_test, self.test_probabilities())

    def test_probabilities(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The network's probability for each test row, in order; every rank takes part."""
        return probabilities(self.network, self._rows.x_test, self.accelerator)

    def prepare(self, optimizer_of: layout.Optimizers) -> tuple[Any, Any]:
        """The network as it is to be called, and its optimizer with the state that it had.

        Both are laid out as `training` says: precision, strategy, compilation.

        Args:
            optimizer_of: makes the optimizer of the parameters that it is given.
        """
        network, optimizer = layout.prepare(self.network, optimizer_of, self.accelerator, self.training)
        if self._engine:  # its state is in parts that no checkpoint of ours holds
            self.live.optimizer = self.live.stored = None
        else:
            if layout.is_sharded(self.network):
                self._keeping.begin_parts(self.live, optimizer)
            self.restore(optimizer)
        return network, optimizer

    def step(self, network: Any, optimizer: Any, batch: Sequence[Tensor], losses: Losses) -> bool:
        """Take one step: micro-batches, exchange, clipping and what the policy says of failures.

        Args:
            network, optimizer: as `prepare` gave them.
            batch: this worker's slice, as `epoch_batches` gave it.
            losses: called with the network and the tensors of some of the rows; the loss of each row.

        Returns:
            Whether the parameters have changed: not where the policy skipped the step.

        Raises:
            BadLossError: the loss is not finite, and the policy is to stop.
        """
        return take_step(self, network, optimizer, batch, losses)

    def restore(self, optimizer: Any) -> None:
        """Give an optimizer the state that it had when the run was left; nothing on a new run.

        From then on each of its steps is counted the moment it is done: whatever fails afterwards (an
        evaluation in which a peer is lost), the step is not taken twice.
        """
        state = self.live.optimizer_state
        inner = getattr(optimizer, "optimizer", optimizer)
        if state is not None:
            optimizer.load_state_dict(layout.parts_of_optimizer(state, inner))
        self.live.optimizer, self.live.stored = optimizer, None
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
        """Save the state after an epoch; every rank calls it, rank 0 writes it in the background.

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
        if optimizer is not None and live.optimizer is None and not self._engine:
            live.optimizer = optimizer
        live.epochs_done = epoch + 1
        self.save(of, metrics=metrics)
        self._report({"epoch": float(epoch), "of": float(of), **metrics})

    def save(
        self, of: int = 0, *, just_in_time: bool = False, metrics: Mapping[str, float] | None = None
    ) -> SaveHandle | None:
        """Copy the state as it is between two steps; it is written in the background.

        Rank 0 writes it; of a sharded network every rank writes its parts, so all of them call it then.

        Returns:
            The save on its way; None on ranks that write nothing. That it failed is told by the handle alone.
        """
        with self.watch.during(Spent.CHECKPOINT):
            return self._keeping.save(self.live, of, just_in_time=just_in_time, metrics=metrics)

    def saves_ended(self, timeout: float) -> bool:
        """Wait for checkpoints on their way, well or not; whether they ended within so many seconds."""
        return self._keeping.ended_within(timeout)

    def finish_saves(self) -> None:
        """Wait for checkpoints on their way; what the policy says where they failed is done."""
        self._keeping.finish()

    def weights(self) -> dict[str, Any]:
        """The network's parameters and buffers, whole, on the CPU; every worker takes part."""
        if layout.is_sharded(self.network):
            layout.fold(self.network)
        return layout.whole(self.network.state_dict())

    def leave(self) -> None:
        """The group is left: what only all of its workers can finish is given up."""
        if self._loader is not None:
            self._loader[1].close()
        self._keeping.leave()

"""One step of training: micro-batches that add up to the global batch, and what can go wrong in it.

Knows the order of a step and who is asked what to do (`failures.decisions`); it does not know the order of
the samples or where checkpoints go (`run`).
"""

import contextlib
import gc
import math
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from rayplat.core.errors import UserError
from rayplat.core.project.training import Training
from rayplat.train.failures.decisions import Halve, Skip, on_bad_loss, on_out_of_memory
from rayplat.train.failures.kept_batch import keep_batch
from rayplat.train.failures.memory import is_out_of_memory, micro_batches
from rayplat.train.layout import has_engine
from rayplat.train.leaving import LeaveError
from rayplat.train.live_state import LiveState

Losses = Callable[..., Tensor]
"""The losses of some rows, one each: called with the network and the tensors of the rows."""
SKIPPED = "skipped_steps"
"""The curve that names the steps that were skipped."""
OVERFLOWS = "overflowed_steps"
"""The curve of the steps that fp16's scaler passed over: its scale was too large. No fault, and no limit."""


class BadLossError(UserError):
    """The loss or the gradient of a step is not finite, and the policy is to stop."""


class Stepping(Protocol):
    """What a step needs of its run."""

    accelerator: Accelerator
    live: LiveState
    training: Training
    kept_uri: str
    note: Callable[[str], None]

    def global_mean(self, losses: Tensor) -> Tensor:
        """The part of these rows in the mean over the global batch."""

    def note_loss(self, loss: Tensor) -> None:
        """Tell this worker's part of the step's loss."""

    def loss(self) -> float:
        """The step's mean loss over all workers."""

    def drop_loss(self) -> None:
        """The step does not count."""


def take_step(run: Stepping, network: Any, optimizer: Any, batch: Sequence[Tensor], losses: Losses) -> bool:
    """Take one step on this worker's slice of a global batch. Returns whether the parameters have changed.

    Raises:
        BadLossError: the loss is not finite, and the policy is to stop.
        UserError: even the smallest micro-batch does not fit into memory.
        LeaveError: memory ran out beside others: the group takes the step again, with smaller micro-batches.
    """
    while True:
        try:
            _gradients(run, network, optimizer, batch, losses)
            return _change(run, network, optimizer, batch)
        # Which errors mean that memory ran out is for `is_out_of_memory` to say: they have no common class.
        except Exception as error:
            if run.live.changing or not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the activations
            told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        _halve(run, len(batch[0]), told)
        if run.accelerator.num_processes > 1:
            # The others are in the middle of an exchange with this worker, which cannot be taken back.
            raise LeaveError
        run.live.undo_step()


def _gradients(run: Stepping, network: Any, optimizer: Any, batch: Sequence[Tensor], losses: Losses) -> None:
    """Add up the gradients of all micro-batches; with the last one they are exchanged."""
    _own(run, optimizer).zero_grad()
    run.drop_loss()
    parts = micro_batches(len(batch[0]), run.live.micro_batch)
    plain = _hands_on(run)
    total: Tensor | None = None
    for rows in parts:
        last = rows is parts[-1]
        with contextlib.nullcontext() if last else _held_back(run.accelerator, network):
            taken = batch if len(parts) == 1 else [tensor[rows] for tensor in batch]
            loss = run.global_mean(losses(network, *taken).float())
            total = loss.detach() if total is None else total + loss.detach()
            if last:
                run.note_loss(total)
            if plain:
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                run.accelerator.backward(loss)


def _hands_on(run: Stepping) -> bool:
    """Whether Accelerate has nothing of its own to do in a step: no scaling, no engine. Its wrappers would
    divide the loss by one, and look through all of `sys.path` for a package, a tenth of a small step."""
    return run.accelerator.scaler is None and not has_engine(run.training, run.accelerator)


def _own(run: Stepping, optimizer: Any) -> Any:
    """The optimizer without Accelerate's wrapper, where that would only hand on."""
    return getattr(optimizer, "optimizer", optimizer) if _hands_on(run) else optimizer


def _held_back(accelerator: Accelerator, network: Any) -> contextlib.AbstractContextManager[Any]:
    """Gradients of this micro-batch stay on this worker."""
    if hasattr(network, "set_requires_gradient_sync"):
        return _unsynced(network)
    held: contextlib.AbstractContextManager[Any] = accelerator.no_sync(network)
    return held


@contextlib.contextmanager
def _unsynced(network: Any) -> Any:
    network.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        network.set_requires_gradient_sync(True)


def _change(run: Stepping, network: Any, optimizer: Any, batch: Sequence[Tensor]) -> bool:
    norm = 0.0
    if run.training.clip_norm is not None and not has_engine(run.training, run.accelerator):
        # The same on all workers: the gradients have been exchanged.
        length = run.accelerator.clip_grad_norm_(network.parameters(), run.training.clip_norm)
        norm = float(length.full_tensor() if hasattr(length, "full_tensor") else length)
    loss = run.loss()
    scaled = run.accelerator.scaler is not None  # an overflow is the scaler's to skip, and it does
    if math.isfinite(loss) and (math.isfinite(norm) or scaled):
        _own(run, optimizer).step()
        # The same on all workers: an overflow of one is in the exchanged gradients of all.
        if scaled and optimizer.step_was_skipped:
            run.live.history.setdefault(OVERFLOWS, []).append((run.live.step, 1.0))
            return False
        return True
    _bad(run, batch, loss, norm)
    _own(run, optimizer).zero_grad()
    return False


def _bad(run: Stepping, batch: Sequence[Tensor], loss: float, norm: float) -> None:
    """Keep the batch; stop or skip. Every worker sees the same loss, so all of them decide alike."""
    live, rank = run.live, int(run.accelerator.process_index)
    about = {"step": live.step, "epoch": live.epoch, "batch": live.batch, "rank": rank, "loss": repr(loss)}
    about |= {"world": int(run.accelerator.num_processes), "gradient_norm": repr(norm)}
    try:
        kept = keep_batch(run.kept_uri, f"step-{live.step:010d}-rank-{rank:04d}", batch, about)
        where = f"the rows of worker {rank} are kept in {kept}"
    except OSError as error:  # a full disk must not hide what went wrong
        where = f"the rows of worker {rank} could not be kept ({error})"
    what = f"the training loss is {loss}" if not math.isfinite(loss) else f"the gradient's length is {norm}"
    place = f"in epoch {live.epoch}, at step {live.step}"
    points = live.history.setdefault(SKIPPED, [])
    decision = on_bad_loss(run.training.on_failure, len(points))
    if not isinstance(decision, Skip):
        raise BadLossError(f"{what} {place} ({decision.reason}); {where}", decision.mend)
    run.note(f"{what} {place}: the step is skipped; {where}")
    points.append((live.step, 1.0))
    live.undo_step()
    run.drop_loss()


def _halve(run: Stepping, rows: int, told: str) -> None:
    live = run.live
    at_once = min(rows, live.micro_batch or rows)
    decision = on_out_of_memory(run.training.on_failure, at_once)
    if not isinstance(decision, Halve):
        raise UserError(f"memory ran out at step {live.step} ({told}): {decision.reason}", decision.mend)
    live.micro_batch = decision.micro_batch
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    what = f"memory ran out at step {live.step} with {at_once} rows at once"
    run.note(f"{what}: now {live.micro_batch} ({told})")

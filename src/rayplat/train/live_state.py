"""The state of a run in the memory of one worker: what a step changes, and how far it is.

Knows when the state is whole: between two steps. Parameters change in `optimizer.step()` alone, after the
gradients of all ranks are in; so a step that a lost peer interrupts has changed nothing, and the state is
that of the step before. It does not know who else trains, nor where checkpoints go.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from rayplat.train.checkpoint import Checkpoint


@dataclass(slots=True)
class LiveState:
    """What a worker carries from one generation of its group to the next.

    Attributes:
        network: the module, never wrapped.
        optimizer: the last one that was given to `TrainRun.restore`; None before.
        stored: an optimizer's state that no optimizer has taken yet.
        step: how many steps are done in the whole run.
        epoch, batch: the epoch in work, and how many of its batches are done.
        epochs_done: how many epochs have ended with a checkpoint.
        history: by curve, its points (step or epoch, value) so far.
        curve: the mean loss over the global batch, by step, as far as the loop noted it.
        micro_batch: the most rows that this worker takes at once; None: its slice whole.
        changing: an optimizer step has begun and not ended: the parameters are of no step.
    """

    network: nn.Module
    optimizer: Any = None
    stored: Mapping[str, Any] | None = None
    step: int = 0
    epoch: int = 0
    batch: int = 0
    epochs_done: int = 0
    history: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    curve: dict[int, float | torch.Tensor] = field(default_factory=dict)
    micro_batch: int | None = None
    changing: bool = False
    _kept: deque[Any] = field(default_factory=lambda: deque(maxlen=8))
    _statistics: dict[str, torch.Tensor] = field(default_factory=dict)
    _normed: list[tuple[str, nn.Module]] | None = None

    @property
    def optimizer_state(self) -> Mapping[str, Any] | None:
        """The state of the optimizer as it is now; tensors are its own, not copies."""
        if self.optimizer is not None:
            state: Mapping[str, Any] = self.optimizer.state_dict()
            return state
        return self.stored

    def as_checkpoint(self, of: int = 0) -> Checkpoint:
        """What a checkpoint of this moment holds."""
        return Checkpoint(
            epoch=self.epochs_done - 1,
            weights=self.network.state_dict(),
            optimizer=self.optimizer_state,
            history=self.history,
            of=of,
            step=self.step,
            at=(self.epoch, self.batch),
            curve=self.losses(),
        )

    def keep(self, *objects: Any) -> None:
        """Hold on to what a collective works on for some steps, also after it is done.

        The thread of the process group would else drop it last, and needs the interpreter's lock for that;
        taking the group down holds that lock while it waits for the thread.
        """
        self._kept.append(objects)

    def losses(self, first: int = 0) -> dict[int, float]:
        """The noted losses from a step on, by step, as numbers."""
        return {step: float(loss) for step, loss in self.curve.items() if step >= first}

    def take(self, found: Checkpoint) -> None:
        """Become what a checkpoint holds."""
        self.network.load_state_dict(dict(found.weights))
        self.optimizer, self.stored = None, found.optimizer
        self.step, (self.epoch, self.batch) = found.step, found.at
        self.epochs_done = found.epoch + 1
        self.history = {curve: list(points) for curve, points in found.history.items()}
        self.curve = dict(found.curve)
        self.changing = False
        self.note_statistics()

    def note_statistics(self) -> None:
        """Keep what a forward pass changes (running statistics of batch norms) as it is at a step's start."""
        if self._normed is None:
            modules = self.network.named_modules()
            self._normed = [(name, module) for name, module in modules if hasattr(module, "running_mean")]
        self._statistics = {
            f"{name}.{buffer}": tensor.detach().clone()
            for name, module in self._normed
            for buffer, tensor in module.named_buffers(recurse=False)
        }

    def unprepare(self) -> None:
        """Take off what Accelerate left on the network, so that it prepares it anew for another group.

        It marks what it has prepared and passes it over later; in a group of one that is the network itself,
        which would then train in a group of two without ever exchanging a gradient.
        """
        from accelerate.utils import extract_model_from_parallel

        # What is kept of collectives keeps the lost group's connections open, too: a member that waits for
        # this one in a step would never learn that it has left.
        self._kept.clear()

        extract_model_from_parallel(self.network, keep_fp32_wrapper=False)
        self.network.__dict__.pop("_is_accelerate_prepared", None)

    def undo_step(self) -> None:
        """Give back what the forward pass of an interrupted step has changed."""
        with torch.no_grad():
            buffers = dict(self.network.named_buffers())
            for name, kept in self._statistics.items():
                buffers[name].copy_(kept)

"""The standard training loop for a binary classifier, under Accelerate.

Knows the optimizer, the schedule and the order of one epoch; it does not know how many workers there
are or where checkpoints go (`run`).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rayplat.core.errors import UserError
from rayplat.train.run import TrainRun

_WARM_UP = 0.05
_POINTS_AN_EPOCH = 20


def fit(
    run: TrainRun, *, epochs: int, batch_size: int = 1024, lr: float = 1e-3, weight_decay: float = 0.0
) -> None:
    """Train `run.network`, with a checkpoint and an evaluation after each epoch; resumes by itself.

    AdamW; the learning rate warms up over the first 5 % of the steps and falls to 0 by a half cosine
    (Loshchilov and Hutter, "SGDR", ICLR 2017). It is a function of the global step, so it depends on
    neither the number of workers nor on restarts.

    Args:
        epochs: how often each training row is seen.
        batch_size: rows of a global batch, over all workers.
        lr: the highest learning rate.
        weight_decay: of AdamW, decoupled.

    Raises:
        UserError: the loss is no longer finite, or an argument is out of range.
    """
    if epochs < 1 or lr <= 0 or weight_decay < 0:
        raise UserError(
            f"fit got epochs={epochs}, lr={lr}, weight_decay={weight_decay}",
            "give epochs >= 1, lr > 0, weight_decay >= 0",
        )
    if run.live.step == 0:
        _learn_statistics(run)
    loop = _Loop(run, epochs, batch_size, lr, weight_decay)
    for epoch in range(run.start_epoch, epochs):
        loop.epoch(epoch)
        mean, points = _loss_curve(run, epoch * loop.steps, loop.steps)
        if not math.isfinite(mean):
            raise UserError(
                f"the training loss is {mean} in epoch {epoch}",
                f"lower lr (it is {lr}), or look for infinite values among the inputs",
            )
        metrics = {"train_loss": mean, **run.evaluate()}
        run.checkpoint(epoch, metrics, loop.optimizer, points={"train_loss_by_step": points}, of=epochs)


def learning_rate(step: int, steps: int, highest: float) -> float:
    """The learning rate of a global step, from 0, of `steps`."""
    warm = max(1, round(steps * _WARM_UP))
    if step < warm:
        return highest * (step + 1) / warm
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def _learn_statistics(run: TrainRun) -> None:
    """Scale the inputs of a network that wants it (as `TabularNet` does)."""
    network: Any = run.network
    if hasattr(network, "set_statistics"):
        mean, std = run.train_statistics()
        quantiles = run.train_quantiles(int(getattr(network, "bins", 0)) or 1)
        network.set_statistics(mean, std, quantiles, run.positive_rate())


class _Loop:
    """Network and optimizer as Accelerate prepared them, with the state of the last checkpoint."""

    def __init__(self, run: TrainRun, epochs: int, batch_size: int, lr: float, weight_decay: float) -> None:
        self._network, self.optimizer = run.prepare(
            lambda parameters: torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
        )
        self._run, self._epochs, self._batch_size, self._lr = run, epochs, batch_size, lr
        self.steps = run.batches(batch_size)

    def epoch(self, epoch: int) -> None:
        """Train through what is left of an epoch."""
        run = self._run
        self._network.train()
        for batch in run.epoch_batches(epoch, self._batch_size):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(run.live.step, self.steps * self._epochs, self._lr)
            run.step(self._network, self.optimizer, batch, _losses)


def _losses(network: Any, x: Tensor, y: Tensor) -> Tensor:
    """The cross entropy of each row."""
    return binary_cross_entropy_with_logits(network(x).float(), y, reduction="none")


def _loss_curve(run: TrainRun, first: int, steps: int) -> tuple[float, list[tuple[int, float]]]:
    """The mean loss of an epoch's steps over all ranks, and a thinned curve of it by global step."""
    noted = run.live.losses(first)  # those of skipped steps are not among them
    at, losses = list(noted), list(noted.values())
    thin = max(1, steps // _POINTS_AN_EPOCH)
    points = [(at[i], _mean(losses[i : i + thin])) for i in range(0, len(losses), thin)]
    return _mean(losses), points


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan

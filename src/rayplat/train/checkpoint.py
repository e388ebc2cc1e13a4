"""Checkpoints of a run: weights, optimizer and history at the end of a step, without pickle.

Knows what a run is between two steps, and how that is parted into tensors and JSON; it does not know when a
checkpoint is due (`run`), or how one is written, verified and found again (`checkpoints`).
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rayplat.train.checkpoints.agreeing import agreed_token
from rayplat.train.checkpoints.retention import Retention
from rayplat.train.checkpoints.steps import StepCheckpoints
from rayplat.train.checkpoints.tree import plain
from rayplat.train.checkpoints.writer import SaveHandle

WEIGHTS = "weights.safetensors"
"""The file of a finished run's weights."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a run is between two steps.

    Attributes:
        epoch: the last epoch that is done, from 0; -1 before the first.
        weights: the network's parameters and buffers.
        optimizer: the optimizer's state dict, or None where there was none.
        history: by curve, its points (step or epoch, value) so far.
        of: how many epochs the run will have, 0 where unknown.
        step: how many steps are done in the whole run.
        at: the epoch in work, and how many of its batches are done.
        curve: the mean loss of each step, where the loop noted it.
    """

    epoch: int
    weights: Mapping[str, Any]
    optimizer: Mapping[str, Any] | None = None
    history: Mapping[str, list[tuple[int, float]]] = field(default_factory=dict)
    of: int = 0
    step: int = 0
    at: tuple[int, int] = (0, 0)
    curve: Mapping[int, float] = field(default_factory=dict)


class CheckpointFolder:
    """The checkpoints of one run, under one URI.

    Args:
        keep: which of them stay; the last two where nothing is said.
        steps: writes and reads them; this process alone where nothing is said.
    """

    def __init__(self, uri: str, keep: Retention | None = None, steps: StepCheckpoints | None = None) -> None:
        self.uri = uri
        self._keep = keep
        self._steps = StepCheckpoints(uri, keep=keep) if steps is None else steps

    def in_parts(self, rank: int, world: int) -> "CheckpointFolder":
        """The same checkpoints, each written by all ranks of the process group together, each its parts.

        Every rank calls it.
        """
        steps = StepCheckpoints(self.uri, rank=rank, world=world, token=agreed_token(), keep=self._keep)
        return CheckpointFolder(self.uri, self._keep, steps)

    def give_up(self) -> None:
        """Wait no longer for other ranks' parts of what is on its way: they may be gone."""
        self._steps.give_up()

    def publish(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint: durable when this returns."""
        self.save(checkpoint).wait()

    def save(
        self,
        checkpoint: Checkpoint,
        *,
        just_in_time: bool = False,
        metrics: Mapping[str, float] | None = None,
    ) -> SaveHandle:
        """Copy a checkpoint and return: it is written in the background.

        Args:
            just_in_time: nothing that waits for the disk is to come before it.
            metrics: of the model as it is now, for retention by the best.
        """
        state = {
            "weights": checkpoint.weights,
            "optimizer": checkpoint.optimizer,
            "epoch": checkpoint.epoch,
            "of": checkpoint.of,
            # Each as one text: a run has thousands of points, and the caller waits while a state is parted.
            "history": json.dumps(dict(checkpoint.history)),
            "at": checkpoint.at,
            "curve": _curve_as_text(checkpoint.curve),
        }
        about = {"metrics": dict(metrics or {})}
        return self._steps.save_async(
            checkpoint.step, state, just_in_time, mark=checkpoint.epoch + 1, about=about
        )

    def latest(self, into: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None) -> Checkpoint | None:
        """The newest checkpoint whose every byte is what was written.

        Args:
            into: weights and an optimizer's state dict whose tensors take what was saved, each rank its own
                parts; every rank of the process group calls it then.
        """
        found = self._steps.latest(None if into is None else {"weights": into[0], "optimizer": into[1]})
        if found is None:
            return None
        step, state = found
        return Checkpoint(
            epoch=int(state["epoch"]),
            weights=state["weights"],
            optimizer=state["optimizer"],
            history=as_history(json.loads(state["history"])),
            of=int(state["of"]),
            step=step,
            at=state["at"],
            curve=_curve_of_text(state["curve"]),
        )

    def progress(self) -> tuple[int, int, dict[str, list[tuple[int, float]]]] | None:
        """Last epoch, how many there will be, and the curves so far; None before the first."""
        for _, index in self._steps.indexes():
            state = index.skeleton
            return int(state["epoch"]), int(state["of"]), as_history(json.loads(str(plain(state["history"]))))
        return None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until nothing is on its way."""
        self._steps.wait(timeout)


def parted(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What a checkpoint is made of: weights and the optimizer's tensors, by name, and what JSON can hold."""
    optimizer, rest = flatten_optimizer(checkpoint.optimizer)
    state = {
        "epoch": checkpoint.epoch,
        "of": checkpoint.of,
        "optimizer": rest,
        "history": dict(checkpoint.history),
        "step": checkpoint.step,
        "at": checkpoint.at,
        "curve": sorted(checkpoint.curve.items()),
    }
    return on_cpu(checkpoint.weights), optimizer, state


def joined(weights: Mapping[str, Any], optimizer: Mapping[str, Any], state: Mapping[str, Any]) -> Checkpoint:
    """Put together again what `parted` parted."""
    return Checkpoint(
        epoch=int(state["epoch"]),
        weights=weights,
        optimizer=unflatten_optimizer(optimizer, state["optimizer"]),
        history=as_history(state["history"]),
        of=int(state["of"]),
        step=int(state["step"]),
        at=(int(state["at"][0]), int(state["at"][1])),
        curve={int(step): float(loss) for step, loss in state["curve"]},
    )


def as_history(plain: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Curves as JSON gives them, with their types again."""
    return {curve: [(int(s), float(v)) for s, v in points] for curve, points in plain.items()}


def _curve_as_text(curve: Mapping[int, float]) -> str:
    """Steps and losses, 8 bytes each."""
    steps = np.fromiter(curve.keys(), np.int64, len(curve))
    losses = np.fromiter(curve.values(), np.float64, len(curve))
    return base64.b64encode(steps.tobytes() + losses.tobytes()).decode()


def _curve_of_text(text: str) -> dict[int, float]:
    content = base64.b64decode(text)
    half = len(content) // 2
    steps, losses = np.frombuffer(content[:half], np.int64), np.frombuffer(content[half:], np.float64)
    return dict(sorted(zip(steps.tolist(), losses.tolist(), strict=True)))


def on_cpu(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Copies that safetensors can write: dense, on the CPU, none sharing memory with another."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def flatten_optimizer(state: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Part an optimizer's state dict into tensors by name and what JSON can hold."""
    import torch

    if state is None:
        return {}, None
    tensors, plain = {}, {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().clone().contiguous()
            else:
                plain[f"{index}.{name}"] = value
    return tensors, {"plain": plain, "param_groups": state["param_groups"]}


def unflatten_optimizer(tensors: Mapping[str, Any], rest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Put together again what `flatten_optimizer` parted."""
    if rest is None:
        return None
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **rest["plain"]}.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = [
        {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
        for group in rest["param_groups"]
    ]
    return {"state": state, "param_groups": groups}

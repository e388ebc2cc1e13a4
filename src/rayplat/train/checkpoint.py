"""Checkpoints of a run: weights, optimizer and history at the end of a step, without pickle.

Knows how a checkpoint is published whole, verified, and found again; it does not know when one is
due (`run`). A checkpoint whose bytes are damaged is passed over for the one before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rayplat.core.errors import IntegrityError, NotFoundError
from rayplat.core.telemetry import get_logger
from rayplat.registry.folder import open_folders
from rayplat.train.sealed import publish, read, read_state

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
_STEP = "step-"
_KEEP = 2


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

    @property
    def name(self) -> str:
        """The folder's name: later ones sort behind earlier ones."""
        return f"{_STEP}{self.step:010d}-{self.epoch + 1:05d}"


class CheckpointFolder:
    """The checkpoints of one run, under one URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def publish(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint whole, then drop those older than the last two."""
        from safetensors.torch import save

        weights, optimizer, state = parted(checkpoint)
        files = {WEIGHTS: save(weights), OPTIMIZER: save(optimizer)}
        publish(f"{self.uri}/{checkpoint.name}", files, state)
        for old in self._names()[:-_KEEP]:
            store, path = open_folders(f"{self.uri}/{old}")
            store.remove(path)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint whose every byte is what was written."""
        for name in reversed(self._names()):
            try:
                return _parse(*read(f"{self.uri}/{name}"))
            except (IntegrityError, NotFoundError) as error:
                log = get_logger("train.checkpoint")
                log.warning("checkpoint_passed_over", checkpoint=name, reason=error.what)
        return None

    def progress(self) -> tuple[int, int, dict[str, list[tuple[int, float]]]] | None:
        """Last epoch, how many there will be, and the curves so far; None before the first."""
        for name in reversed(self._names()):
            try:
                state = read_state(f"{self.uri}/{name}")
            except (IntegrityError, NotFoundError):
                continue
            return int(state["epoch"]), int(state["of"]), as_history(state["history"])
        return None

    def _names(self) -> list[str]:
        store, path = open_folders(self.uri)
        return [name for name in store.folders(path) if name.startswith(_STEP)]


def _parse(files: Mapping[str, bytes], state: Mapping[str, Any]) -> Checkpoint:
    from safetensors.torch import load

    return joined(load(files[WEIGHTS]), load(files[OPTIMIZER]), state)


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

"""What each worker needs: the task, the project's model, whose fault an error is, and the result.

Knows the worker's side of a run; it does not know how workers are started or who they are (`elastic`).
"""

import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rayplat.core.errors import NotFoundError, RayplatError, UnavailableError, UserError
from rayplat.core.project.load import load_project
from rayplat.core.project.model import Model
from rayplat.registry.estimators import FILES
from rayplat.train import sealed
from rayplat.train.checkpoint import WEIGHTS, CheckpointFolder, as_history, on_cpu
from rayplat.train.environment import hardware
from rayplat.train.policy import Cause
from rayplat.train.rows import ReadsRows
from rayplat.train.run import TrainRun

PROBABILITIES = "probabilities.safetensors"
_RAYS_OWN = "_raylet.pyx"
_PEER_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")


class TrainFunctionError(UserError):
    """The project's training function failed; the message has the place in the project's file."""


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What a worker must know. Travels to it as a value.

    Attributes:
        project: the address of the project.
        run_uri: the folder of the run's checkpoints and result.
        kept_uri: where batches that went wrong are kept; empty: beside the checkpoints.
        params: the values that a study found, for the project's function.
    """

    project: str
    model: str
    rows: ReadsRows
    run_uri: str
    threads: int
    kept_uri: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to: weights or an estimator's file, the probability of each test row, the curves."""

    weights: Mapping[str, Any]
    probabilities: NDArray[np.float32]
    history: Mapping[str, list[tuple[int, float]]]
    world_size: int
    hardware: Mapping[str, str] = field(default_factory=dict)
    estimator: Mapping[str, bytes] = field(default_factory=dict)


def checkpoints_of(run_uri: str) -> CheckpointFolder:
    """The checkpoints of a run."""
    return CheckpointFolder(f"{run_uri}/checkpoints")


def has_result(run_uri: str) -> bool:
    """Whether the run was trained to its end."""
    return sealed.exists(f"{run_uri}/result")


def read_result(run_uri: str) -> RunResult:
    """What the run came to, verified.

    Raises:
        NotFoundError: it has not ended.
        IntegrityError: its bytes are not what was written.
    """
    from safetensors.torch import load

    files, state = sealed.read(f"{run_uri}/result")
    return RunResult(
        weights=load(files[WEIGHTS]) if WEIGHTS in files else {},
        estimator={name: content for name, content in files.items() if name in FILES.values()},
        probabilities=load(files[PROBABILITIES])["probability"].numpy(),
        history=as_history(state["history"]),
        world_size=int(state["world_size"]),
        hardware=dict(state.get("hardware", {})),
    )


def declared(task: WorkerTask) -> Model:
    """The model that a task names, from its project.

    Raises:
        ProjectError: the project does not load here.
        NotFoundError: it has no such model.
    """
    project = load_project(task.project)
    model = next((m for m in project.models if m.name == task.model), None)
    if model is None:
        raise NotFoundError(
            f"project {task.project!r} has no model {task.model!r}", "declare it, or correct the name"
        )
    return model


def keep_result(
    run_uri: str, run: TrainRun, probabilities: NDArray[np.float32], weights: Mapping[str, Any]
) -> None:
    """Write down what the run came to: durable when this returns."""
    from safetensors.torch import save

    state = {"history": dict(run.history), "world_size": run.world_size, "hardware": hardware()}
    keep_files(run_uri, {WEIGHTS: save(on_cpu(weights))}, probabilities, state)


def keep_files(
    run_uri: str, files: Mapping[str, bytes], probabilities: NDArray[np.float32], state: Mapping[str, Any]
) -> None:
    """Write down the files that a model is, its probabilities, and what else is known of the run."""
    from safetensors.torch import save

    told = save({"probability": torch.from_numpy(probabilities.astype(np.float32))})
    sealed.publish(f"{run_uri}/result", {**files, PROBABILITIES: told}, state)


class UserCode:
    """Turns an error of the project's code into one that says where in its file it was raised.

    The message is text alone: the project's own exception classes may not exist at the driver.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or not isinstance(error, Exception | SystemExit) or cause_of(error) is Cause.PEER:
            return
        frames = traceback.extract_tb(trace)
        if isinstance(error, SystemExit) and frames[-1].filename.endswith(_RAYS_OWN):
            return  # Ray ends the process: that is no doing of the project's
        file = self._model.where.file
        own = [at for at, frame in enumerate(frames) if frame.filename == file]
        place = f"{frames[own[-1]].filename}:{frames[own[-1]].lineno}" if own else file
        shown = "".join(traceback.format_list(frames[own[0] if own else 0 :]))
        what = error.what if isinstance(error, RayplatError) else f"{type(error).__name__}: {error}"
        mend = error.mend if isinstance(error, RayplatError) else ""
        raise TrainFunctionError(
            f"the training of model {self._model.name!r} failed at {place}: {what}\n{shown.rstrip()}",
            mend or "correct the project's code and run it again; training goes on from the last checkpoint",
        ) from error


def cause_of(error: BaseException) -> Cause:
    """Why a worker stopped, from the error it ended with."""
    if isinstance(error, TrainFunctionError):
        return Cause.CODE
    if isinstance(error, UnavailableError | ConnectionError):
        return Cause.PEER
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and isinstance(error, distributed.DistError):
        return Cause.PEER
    if isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _PEER_LOST):
        return Cause.PEER
    if type(error).__module__.startswith("ray."):
        return Cause.LOST
    return Cause.CODE

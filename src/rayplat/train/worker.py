"""What each worker does: load project and rows, call the project's function, keep the result.

Knows the worker's side of a run; it does not know how workers are started or how often (`group`).
"""

import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rayplat.core.errors import NotFoundError, RayplatError, UnavailableError, UserError
from rayplat.core.project.load import load_project
from rayplat.core.project.model import Model
from rayplat.train import sealed
from rayplat.train.checkpoint import WEIGHTS, CheckpointFolder, as_history, on_cpu
from rayplat.train.policy import Cause
from rayplat.train.rows import RowSource

PROBABILITIES = "probabilities.safetensors"
_PEER_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")


class TrainFunctionError(UserError):
    """The project's training function failed; the message has the place in the project's file."""


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What a worker must know. Travels to it as a value.

    Attributes:
        project: the address of the project.
        run_uri: the folder of the run's checkpoints and result.
    """

    project: str
    model: str
    rows: RowSource
    run_uri: str
    threads: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to: weights, the probability of each test row, and the curves."""

    weights: Mapping[str, Any]
    probabilities: NDArray[np.float32]
    history: Mapping[str, list[tuple[int, float]]]
    world_size: int


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
        weights=load(files[WEIGHTS]),
        probabilities=load(files[PROBABILITIES])["probability"].numpy(),
        history=as_history(state["history"]),
        world_size=int(state["world_size"]),
    )


def work(task: WorkerTask, report: Callable[[Mapping[str, float]], None]) -> None:
    """Train on this worker, to the end.

    Raises:
        TrainFunctionError: the project's function failed.
        RayplatError: the project or the rows cannot be had.
    """
    from accelerate import Accelerator

    from rayplat.train.run import TrainRun

    project = load_project(task.project)
    model = next((m for m in project.models if m.name == task.model), None)
    if model is None:
        raise NotFoundError(
            f"project {task.project!r} has no model {task.model!r}", "declare it, or correct the name"
        )
    gpu = torch.cuda.is_available()
    accelerator = Accelerator(
        cpu=not gpu, mixed_precision="bf16" if gpu and torch.cuda.is_bf16_supported() else "no"
    )
    # After Accelerate, which takes the whole machine for itself where nothing is said.
    torch.set_num_threads(task.threads)
    rows = task.rows.read()
    with _UserCode(model):
        run = TrainRun(
            rows=rows,
            build=model.network,
            seed=model.seed,
            checkpoints=checkpoints_of(task.run_uri),
            accelerator=accelerator,
            report=report,
        )
        model.train(run)
        probabilities = run.test_probabilities()
    if run.rank == 0:
        _keep(task.run_uri, RunResult(run.network.state_dict(), probabilities, run.history, run.world_size))
    accelerator.wait_for_everyone()


def _keep(run_uri: str, result: RunResult) -> None:
    from safetensors.torch import save

    files = {
        WEIGHTS: save(on_cpu(result.weights)),
        PROBABILITIES: save({"probability": torch.from_numpy(result.probabilities.astype(np.float32))}),
    }
    sealed.publish(
        f"{run_uri}/result", files, {"history": dict(result.history), "world_size": result.world_size}
    )


class _UserCode:
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

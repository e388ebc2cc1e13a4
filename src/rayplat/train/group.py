"""Worker groups on Ray Train: started, followed, and started again after a loss.

Knows Ray Train; it does not know what a worker does (`worker`) or when to give up (`policy`).
Ray's own retries are off: it would start a group again for an error in the project's code, too.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.core.settings_environment import set_for_sdk
from rayplat.core.telemetry import get_logger
from rayplat.train.policy import Cause, Failure, GiveUp, decide
from rayplat.train.reservations import give_back_reservations, note_reservation
from rayplat.train.worker import WorkerTask, cause_of, checkpoints_of, work

Progress = Callable[[str, float | None], None]

RESTARTS_WITHOUT_PROGRESS = 3
_POLL_S = 0.5
_COLLECTIVE_TIMEOUT_S = 600
# Read by Ray Train from the driver's environment, and carried by it to controller and workers.
_RAY_TRAIN = {
    # A report is noticed at the next health check: 2 s by default, so an epoch would cost as much.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.05",
    # A project's address is relative to the job's folder; Ray Train would leave it for the run's own.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Its metrics and print patch are not used, and each costs time at the start of a worker.
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """How many workers, and where Ray Train keeps its own files."""

    least: int
    most: int
    storage_uri: str
    name: str


def run_group(spec: GroupSpec, task: WorkerTask, progress: Progress) -> int:
    """Run the task on a worker group to its end; how often the group was started again.

    Raises:
        RayplatError: the project is at fault, with the place in its file.
        UnavailableError: workers were lost again and again without a new checkpoint.
    """
    set_for_sdk({**_RAY_TRAIN, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1" if _several_nodes() else "0"})
    restarts = stuck = 0
    done_before = _epochs_done(task.run_uri)
    log = get_logger("train.group")
    while True:
        with _followed(task.run_uri, progress):
            failures = _attempt(spec, task)
        if not failures:
            return restarts
        done = _epochs_done(task.run_uri)
        stuck = 0 if done > done_before else stuck
        done_before = done
        decision = decide([f for f, _ in failures], stuck, RESTARTS_WITHOUT_PROGRESS)
        if isinstance(decision, GiveUp):
            raise _error_of(decision, dict(failures)) from dict(failures)[decision.failure]
        log.warning("workers_restart", reason=decision.reason, epochs_done=done)
        progress(f"{decision.reason}; going on after epoch {done}", None)
        restarts += 1
        stuck += 1


def _several_nodes() -> bool:
    """Whether a node can be taken away while the driver lives on: on one node a watcher only costs."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return sum(bool(node["Alive"]) for node in nodes) > 1


def _attempt(spec: GroupSpec, task: WorkerTask) -> list[tuple[Failure, BaseException]]:
    """One worker group to its end: no failure, or how its workers failed."""
    import ray
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

    give_back_reservations(task.run_uri)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = resources.get("GPU", 0.0)
    trainer = TorchTrainer(
        _on_worker,
        train_loop_config={"task": task},
        torch_config=TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(
            num_workers=spec.least if spec.least == spec.most else (spec.least, spec.most),
            use_gpu=gpus >= spec.least,
            resources_per_worker=None if gpus >= spec.least else {"CPU": task.threads},
        ),
        run_config=RunConfig(  # type: ignore[arg-type]  # ray.train hides version 2 of its class
            name=spec.name,
            storage_path=spec.storage_uri,
            failure_config=FailureConfig(max_failures=0),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    context: Any = trainer.train_run_context  # type: ignore[attr-defined]  # version 2 has it
    note_reservation(task.run_uri, str(context.run_id))
    try:
        trainer.fit()
    except WorkerGroupError as error:
        failures = sorted(error.worker_failures.items()) or [(0, error)]
        return [(Failure(rank, cause_of(e), str(e)), e) for rank, e in failures]
    except (ControllerError, ray.exceptions.RayActorError) as error:
        return [(Failure(0, Cause.LOST, str(error)), error)]
    return []


def _on_worker(config: Mapping[str, Any]) -> None:
    import ray.train

    def report(metrics: Mapping[str, float]) -> None:
        ray.train.report(dict(metrics))

    work(config["task"], report)


def _error_of(decision: GiveUp, errors: Mapping[Failure, BaseException]) -> RayplatError:
    error = errors[decision.failure]
    if isinstance(error, RayplatError) and decision.failure.cause is Cause.CODE:
        return error
    return UnavailableError(
        f"training stopped: worker {decision.failure.rank} failed ({decision.reason}): "
        f"{decision.failure.text}",
        "look at `rayplat status` and Ray's log for memory and nodes, then run it again: it goes on from "
        "the last checkpoint",
    )


def _epochs_done(run_uri: str) -> int:
    found = checkpoints_of(run_uri).progress()
    return 0 if found is None else found[0] + 1


@contextmanager
def _followed(run_uri: str, progress: Progress) -> Iterator[None]:
    """Tell of each epoch as its checkpoint appears, while the body runs."""
    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(run_uri, progress, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _follow(run_uri: str, progress: Progress, over: threading.Event) -> None:
    told = _epochs_done(run_uri)
    ending = False
    while not ending:
        ending = over.wait(_POLL_S)
        found = checkpoints_of(run_uri).progress()
        if found is None or found[0] < told:
            continue
        epoch, of, history = found
        told = epoch + 1
        last = {name: points[-1][1] for name, points in history.items() if points}
        shown = [f"{n} {last[n]:.4f}" for n in ("train_loss", "roc_auc", "log_loss") if n in last]
        text = f"epoch {told}" + (f" of {of}" if of else "") + ": " + ", ".join(shown)
        progress(text, told / of if of else None)
        get_logger("train.group").info("epoch", epoch=epoch, **last)

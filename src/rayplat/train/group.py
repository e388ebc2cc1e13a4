"""A group of workers for one run: from what the model asks for to the run's end.

Knows what is reserved for a worker and how a failure is told; it does not know how members come and go
(`elastic`), or what a worker does (`worker`).
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.train.elastic.controller import Controller, FailedError, Outcome, Progress
from rayplat.train.elastic.door import Door
from rayplat.train.elastic.slots import Slots, SlotSpec
from rayplat.train.policy import Cause
from rayplat.train.worker import TrainFunctionError, WorkerTask

_COLLECTIVE_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """How many workers, and how many more processes are kept ready to take the place of a lost one."""

    least: int
    most: int
    standbys: int = 0


def run_group(
    spec: GroupSpec, task: WorkerTask, progress: Progress, stop_asked: Callable[[], bool] = lambda: False
) -> Outcome:
    """Run the task on a worker group to its end. Ray must be connected.

    Raises:
        RayplatError: the project is at fault, with the place in its file.
        UnavailableError: workers were lost again and again without a step.
    """
    import ray

    host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    secret = secrets.token_hex(16)
    door = Door(host, secret)
    try:
        bundle = _bundle(spec, task)
        slots = Slots(
            SlotSpec(bundle, spec.most, spec.standbys), task, door, host, secret, _COLLECTIVE_TIMEOUT_S
        )
        try:
            return Controller(slots, door, spec.least, spec.most, progress, stop_asked).run()
        except FailedError as failed:
            raise _error_of(failed) from None
        finally:
            slots.close()
    finally:
        door.close()


def _bundle(spec: GroupSpec, task: WorkerTask) -> dict[str, float]:
    """What each worker gets: a GPU where there are enough of them, and its threads' CPUs."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    bundle = {"CPU": float(task.threads)}
    if resources.get("GPU", 0.0) >= spec.least:
        bundle["GPU"] = 1.0
    return bundle


def _error_of(failed: FailedError) -> RayplatError:
    failure, told = failed.decision.failure, failed.told
    if failure.cause is Cause.CODE:
        return TrainFunctionError(failure.text, str(told.get("mend", "")))
    return UnavailableError(
        f"training stopped: worker {failure.rank} failed ({failed.decision.reason}): {failure.text}",
        "look at `rayplat status` and Ray's log for memory and nodes, then run it again: it goes on from "
        "the last checkpoint",
    )

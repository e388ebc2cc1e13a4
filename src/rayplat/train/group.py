"""A group of workers for one run: from what the model asks for to the run's end.

Knows what is reserved for a worker and how a failure is told; it does not know how members come and go
(`elastic`), or what a worker does (`worker`).
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.core.project.model import Model
from rayplat.train.elastic.controller import Controller, FailedError, Outcome, Progress
from rayplat.train.elastic.door import Door
from rayplat.train.elastic.slots import Slots, SlotSpec
from rayplat.train.goodput.bookkeeper import Bookkeeper
from rayplat.train.policy import Cause
from rayplat.train.worker import TrainFunctionError, WorkerTask

_COLLECTIVE_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """How many workers, what each gets, and when it counts as hung.

    Attributes:
        standbys: how many more processes are kept ready to take the place of a lost one.
        gpus: of each worker; None: one where there are enough of them.
    """

    least: int
    most: int
    standbys: int = 0
    cpus: float = 1.0
    gpus: float | None = None
    hung_after_s: float = 120.0


def group_spec(model: Model) -> GroupSpec:
    """How many workers a model's run has, and what each gets."""
    (least, most), training = model.workers, model.training
    return GroupSpec(
        least,
        most,
        standbys=training.standbys,
        cpus=training.cpus,
        gpus=training.gpus,
        hung_after_s=training.on_failure.hung_after_s,
    )


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
        bundle = _bundle(spec)
        slots = Slots(
            SlotSpec(bundle, spec.most, spec.standbys), task, door, host, secret, _COLLECTIVE_TIMEOUT_S
        )
        try:
            books = Bookkeeper(task.run_uri)
            return Controller(
                slots,
                door,
                spec.least,
                spec.most,
                progress,
                stop_asked,
                books=books,
                hung_after_s=spec.hung_after_s,
            ).run()
        except FailedError as failed:
            raise _error_of(failed) from None
        finally:
            slots.close()
    finally:
        door.close()


def _bundle(spec: GroupSpec) -> dict[str, float]:
    """What each worker gets: its CPUs, and the GPUs that it asks for, or one where there are enough."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = spec.gpus
    if gpus is None:
        gpus = 1.0 if resources.get("GPU", 0.0) >= spec.least else 0.0
    return {"CPU": float(spec.cpus)} | ({"GPU": gpus} if gpus else {})


def _error_of(failed: FailedError) -> RayplatError:
    failure, told = failed.decision.failure, failed.told
    if failure.cause is Cause.CODE:
        return TrainFunctionError(failure.text, str(told.get("mend", "")))
    return UnavailableError(
        f"training stopped: worker {failure.rank} failed ({failed.decision.reason}): {failure.text}",
        "look at `rayplat status` and Ray's log for memory and nodes, then run it again: it goes on from "
        "the last checkpoint",
    )

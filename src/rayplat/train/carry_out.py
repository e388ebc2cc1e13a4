"""A run carried out as its model's kind asks for.

Knows which kind is trained how; it does not know what is done with the result (`trainer`, `reproduce`).
"""

from collections.abc import Callable

from rayplat.core.project.model import Model
from rayplat.train.elastic.controller import Progress
from rayplat.train.estimators.task import run_estimator
from rayplat.train.group import group_spec, run_group
from rayplat.train.worker import WorkerTask


def carry_out(
    model: Model, task: WorkerTask, progress: Progress, stop_asked: Callable[[], bool] = lambda: False
) -> bool:
    """Train to the end: a network by an elastic group, an estimator by one worker. Whether it was stopped.

    Raises:
        RayplatError: the project is at fault, with the place in its file.
        UnavailableError: workers were lost again and again.
    """
    if model.kind != "torch":
        return run_estimator(model, task, progress, stop_asked)
    return run_group(group_spec(model), task, progress, stop_asked).stopped

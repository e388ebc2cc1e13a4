"""One estimator fitted on one worker of the cluster, and what it came to, kept.

Knows how the task runs under Ray and what is done when it fails; it does not know how an estimator is
fitted (`run`).
"""

from collections.abc import Callable
from typing import Any

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.core.project.model import Model
from rayplat.registry.estimators import FILES, predictor_of, require, write_estimator
from rayplat.train.elastic.controller import Progress
from rayplat.train.environment import hardware
from rayplat.train.estimators.run import EstimatorRun, is_fitted, probabilities_of
from rayplat.train.goodput.bookkeeper import Bookkeeper
from rayplat.train.goodput.spending import Spent
from rayplat.train.goodput.stopwatch import Stopwatch
from rayplat.train.worker import TrainFunctionError, UserCode, WorkerTask, declared, keep_files

_RETRIES = 3
_LOOK_S = 0.5
_WORKER = "estimator"


def fit_and_keep(task: WorkerTask) -> dict[str, Any]:
    """Fit the task's estimator and write down what it came to. Returns what is told of it."""
    watch = Stopwatch(doing=Spent.INPUT)
    try:
        rows, model = task.rows.read(), declared(task)
        watch.enter(Spent.PRODUCTIVE)
        with UserCode(model):
            run = EstimatorRun(rows, model.kind, model.seed, max(1, int(model.training.cpus)), task.params)
            estimator: Any = model.train(run)
            if not is_fitted(estimator):
                estimator = run.fit(estimator)
            content = write_estimator(model.kind, estimator)
            probabilities = probabilities_of(predictor_of(model.kind, content), rows.x_test)
        watch.enter(Spent.CHECKPOINT)
        state = {"history": run.history, "world_size": 1, "hardware": hardware()}
        keep_files(task.run_uri, {FILES[model.kind]: content}, probabilities, state)
    except RayplatError as error:  # as text: the project's own classes may not exist at the driver
        return {"failed": isinstance(error, TrainFunctionError), "told": error.what, "mend": error.mend}
    return {"spent": watch.spent().as_json()}


def run_estimator(
    model: Model, task: WorkerTask, progress: Progress, stop_asked: Callable[[], bool] = lambda: False
) -> bool:
    """Fit the task's estimator on a worker. Ray must be connected. Returns whether it was stopped.

    A worker that is lost is replaced, three times; an error of the project's code is not tried again.

    Raises:
        RayplatError: the project is at fault, with the place in its file.
        UnavailableError: the worker was lost again and again.
    """
    import ray

    require(model.kind)
    books = Bookkeeper(task.run_uri)
    books.began(_WORKER)
    remote: Any = ray.remote(fit_and_keep)
    gpus = model.training.gpus or 0
    ref = remote.options(num_cpus=model.training.cpus, num_gpus=gpus, max_retries=_RETRIES).remote(task)
    progress(f"fitting by {model.kind}", 0.0)
    books.formed(1)
    try:
        while not ray.wait([ref], timeout=_LOOK_S)[0]:
            books.look()
            if stop_asked():
                ray.cancel(ref, force=True)
                return True
        told: dict[str, Any] = ray.get(ref)
    except ray.exceptions.RayError as error:
        raise UnavailableError(
            f"the worker that fits the estimator was lost {_RETRIES + 1} times: {error}",
            "look at `rayplat status` and Ray's log for memory and nodes",
        ) from error
    else:
        books.heard(_WORKER, {"say": "done", **told})
    finally:
        books.close()
    if "told" in told:
        kind = TrainFunctionError if told["failed"] else RayplatError
        raise kind(told["told"], told["mend"])
    progress("fitted", 1.0)
    return False

"""A trial of a project's model: the project's own training function with a trial's values.

Knows how the training rows are cut so that a trial never sees the test rows; it does not know what is
searched or how the best becomes a version (`model_study`).
"""

import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.project.load import load_project
from rayplat.core.project.model import METRICS, Model
from rayplat.train.rows import Rows
from rayplat.tuning.trial import Trial

if TYPE_CHECKING:
    from rayplat.core.project.project import Project
    from rayplat.tuning.group_trial import Elastic

SECONDS = "train_seconds"
HELD_OUT = 0.2


def model_of(project: "Project", name: str) -> Model:
    """The project's model of this name.

    Raises:
        NotFoundError: it has none.
    """
    model = next((m for m in project.models if m.name == name), None)
    if model is None:
        raise NotFoundError(f"the project has no model {name!r}", "declare it, or correct the name")
    return model


def for_trials(rows: Rows) -> Rows:
    """The training rows alone: the last fifth in the order of time is what trials are measured on.

    Raises:
        UserError: too few rows, or one class only on a side.
    """
    cut = round(len(rows.y_train) * (1 - HELD_OUT))
    sides = (rows.y_train[:cut], rows.y_train[cut:])
    if any(len(np.unique(side)) < 2 for side in sides):
        raise UserError(
            f"of {len(rows.y_train)} training rows, the first {cut} or the others have one class only",
            "move train_until so that both classes are on both sides",
        )
    return Rows(rows.inputs, rows.x_train[:cut], sides[0], rows.x_train[cut:], sides[1])


@dataclass
class ModelTrial:
    """What a worker calls: trains once with the trial's values, and measures.

    Attributes:
        address: of the project.
        rows: as `for_trials` gives them, or a reference of Ray's to them: all workers of a node read the
            same memory.
        metrics: what is measured; the first is reported after each epoch.
        elastic: makes a network's trial a group that takes in idle workers; None: it trains on one.
    """

    address: str
    model: str
    rows: Any
    metrics: tuple[str, ...]
    elastic: "Elastic | None" = None

    def __call__(self, trial: Trial) -> Sequence[float]:
        """Train and measure."""
        model, rows = self._loaded()
        begin = time.perf_counter()
        measure = self._measure(model)
        with warnings.catch_warnings():
            # Rows in shared memory cannot be written; nobody writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            found = dict(measure(model, rows, trial, self.metrics[0]))
        found[SECONDS] = time.perf_counter() - begin
        return [found[name] for name in self.metrics]

    def _measure(self, model: Model) -> Callable[[Model, Rows, Trial, str], Mapping[str, float]]:
        if model.kind != "torch":
            return _estimator
        if self.elastic is None:
            return _network
        from rayplat.tuning.group_trial import measure_group

        elastic, address, shared = self.elastic, self.address, self.rows
        return lambda model, rows, trial, reported: measure_group(
            elastic, model, address, shared, rows, trial, reported
        )

    def _loaded(self) -> tuple[Model, Rows]:
        if not hasattr(self, "_kept"):
            rows = self.rows
            if not isinstance(rows, Rows):
                import ray

                rows = ray.get(rows)
            self._kept = model_of(load_project(self.address), self.model), rows
        return self._kept

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}


def _network(model: Model, rows: Rows, trial: Trial, reported: str) -> Mapping[str, float]:
    import torch

    from rayplat.train.layout import accelerator_for
    from rayplat.train.run import TrainRun
    from rayplat.train.worker import checkpoints_of
    from rayplat.tuning.going_on import take_up

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="rayplat-trial-") as folder:
        checkpoints = checkpoints_of(trial.uri or Path(folder).as_uri())
        known = take_up(trial, checkpoints)

        def heard(metrics: Mapping[str, float]) -> None:
            if reported in metrics:
                done = int(metrics["epoch"]) + 1
                trial.report(metrics[reported], done, last=done >= metrics.get("of", 0) > 0)

        run = TrainRun(
            rows=rows,
            build=model.network,
            seed=model.seed,
            checkpoints=checkpoints,
            accelerator=accelerator_for(model.training),
            report=heard,
            training=model.training,
            params=trial.params,
        )
        try:
            if known and run.history.get(reported):  # a kill may have come before it was told
                epoch, value = run.history[reported][-1]
                heard({reported: value, "epoch": epoch, "of": known[1]})
            model.train(run)
            return run.evaluate()
        finally:
            checkpoints.wait()


def _estimator(model: Model, rows: Rows, trial: Trial, reported: str) -> Mapping[str, float]:
    from rayplat.registry.estimators import predictor_of, write_estimator
    from rayplat.train.estimators.run import EstimatorRun, is_fitted, probabilities_of
    from rayplat.train.metrics import all_metrics

    run = EstimatorRun(rows, model.kind, model.seed, max(1, int(model.training.cpus)), trial.params)
    estimator: Any = model.train(run)
    if not is_fitted(estimator):
        estimator = run.fit(estimator)
    predictor = predictor_of(model.kind, write_estimator(model.kind, estimator))
    return all_metrics(rows.y_test, probabilities_of(predictor, rows.x_test))


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse what is not measured.

    Raises:
        UserError: a metric is unknown, or `train_seconds` stands first, which no epoch reports.
    """
    unknown = [m for m in metrics if m not in (*METRICS, SECONDS)]
    if unknown or not metrics or metrics[0] == SECONDS:
        raise UserError(
            f"a trial cannot be measured by {', '.join(metrics) or 'nothing'}",
            f"name one of {', '.join(METRICS)}; {SECONDS} may follow as a further objective",
        )

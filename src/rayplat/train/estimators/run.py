"""The training run as a project's function sees it where its model is an estimator of a library.

Knows the rows and how each library stops early and tells its curves; it does not know where it runs (`task`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayplat.core.errors import UserError
from rayplat.train.rows import Rows

_HELD_OUT = 0.1


class EstimatorRun:
    """What `train(run)` gets where `kind` is not `torch`; it returns the estimator, fitted or not.

    Attributes:
        kind: `sklearn`, `xgboost` or `lightgbm`.
        inputs: the names of the inputs, in order.
        seed: the model's seed.
        threads: how many the estimator may use.
        x, y: the training rows in the order of time, float32, NaN where a value is missing.
        params: the values of a trial; empty where nothing is tuned.
        history: by curve, its points (boosting round, value).
    """

    def __init__(
        self, rows: Rows, kind: str, seed: int, threads: int, params: Mapping[str, Any] | None = None
    ) -> None:
        self.kind, self.seed, self.threads = kind, seed, threads
        self.inputs: Sequence[str] = rows.inputs
        self.x, self.y = rows.x_train, rows.y_train
        self.params: Mapping[str, Any] = dict(params or {})
        self.history: dict[str, list[tuple[int, float]]] = {}

    def fit(self, estimator: Any, *, early_stopping: int = 50, held_out: float = _HELD_OUT) -> Any:
        """Fit an estimator of scikit-learn's kind on the training rows; the same estimator.

        XGBoost and LightGBM stop when the loss on the last `held_out` of the rows, in the order of time, has
        not become better for `early_stopping` rounds; their losses by round become curves. scikit-learn's
        estimators get all rows: those that stop early hold out rows by themselves.

        Raises:
            UserError: an argument is out of range.
        """
        if early_stopping < 1 or not 0 < held_out < 1:
            raise UserError(
                f"fit got early_stopping={early_stopping}, held_out={held_out}",
                "give early_stopping >= 1 and 0 < held_out < 1",
            )
        if self.kind == "sklearn":
            estimator.fit(self.x, self.y)
            return estimator
        cut = max(1, min(len(self.y) - 1, round(len(self.y) * (1 - held_out))))
        train, held = (self.x[:cut], self.y[:cut]), (self.x[cut:], self.y[cut:])
        if self.kind == "xgboost":
            self._fit_xgboost(estimator, train, held, early_stopping)
        else:
            self._fit_lightgbm(estimator, train, held, early_stopping)
        return estimator

    def _fit_xgboost(self, estimator: Any, train: Any, held: Any, early_stopping: int) -> None:
        estimator.set_params(n_jobs=self.threads, early_stopping_rounds=early_stopping)
        if estimator.get_params().get("random_state") is None:
            estimator.set_params(random_state=self.seed)
        estimator.fit(*train, eval_set=[train, held], verbose=False)
        self._note(estimator.evals_result(), {"validation_0": "train", "validation_1": "held_out"})

    def _fit_lightgbm(self, estimator: Any, train: Any, held: Any, early_stopping: int) -> None:
        import lightgbm

        estimator.set_params(n_jobs=self.threads, verbosity=-1, deterministic=True, force_row_wise=True)
        if estimator.get_params().get("random_state") is None:
            estimator.set_params(random_state=self.seed)
        stop = lightgbm.early_stopping(early_stopping, verbose=False)
        names = ["held_out"]
        estimator.fit(*train, eval_X=held[0], eval_y=held[1], eval_names=names, callbacks=[stop])
        self._note(estimator.evals_result_, {"held_out": "held_out"})

    def _note(self, told: Mapping[str, Mapping[str, Sequence[float]]], names: Mapping[str, str]) -> None:
        for part, curves in told.items():
            for metric, values in curves.items():
                name = f"{names.get(part, part)}_{metric}"
                self.history[name] = [(at, float(value)) for at, value in enumerate(values)]


def is_fitted(estimator: Any) -> bool:
    """Whether an estimator, or a library's own booster, has learned already."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if not hasattr(estimator, "fit"):
        return True
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def probabilities_of(predict: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probability of each row.

    Raises:
        UserError: the estimator gives something else.
    """
    p = np.asarray(predict(x), dtype=np.float64)
    if p.shape != (len(x),) or not np.all((p >= 0) & (p <= 1)):
        raise UserError(
            f"the estimator gives values of shape {p.shape} for {len(x)} rows, not a probability each",
            "train a binary classifier: objective binary:logistic, or binary",
        )
    return p.astype(np.float32)

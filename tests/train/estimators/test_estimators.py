"""Estimators: fitted, stopped early, written without pickle, and serving as a network does."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayplat.core.errors import IntegrityError, UserError
from rayplat.registry.estimators import FILES, EstimatorNetwork, predictor_of, write_estimator
from rayplat.train.estimators.run import EstimatorRun, is_fitted, probabilities_of
from rayplat.train.estimators.task import fit_and_keep
from rayplat.train.goodput.spending import Spending, Spent
from rayplat.train.metrics import roc_auc
from rayplat.train.worker import RunResult, WorkerTask, read_result
from tests.train.elastic.processes import InMemory
from tests.train.synthetic import INPUTS, make_rows

PROJECT = Path(__file__).parents[1] / "projects/trees.py"
LIBRARIES = {"sklearn": "skops", "xgboost": "xgboost", "lightgbm": "lightgbm"}


def fitted(folder: Path, kind: str) -> tuple[dict[str, Any], RunResult]:
    pytest.importorskip(LIBRARIES[kind])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT, folder / "clicks.py")
    (folder / "kind.txt").write_text(kind)
    rows: Any = InMemory(1003)
    told = fit_and_keep(WorkerTask(str(folder / "clicks.py"), "click", rows, f"file://{folder}/run", 1))
    assert set(told) == {"spent"}, told
    return told, read_result(f"file://{folder}/run")


@pytest.mark.parametrize("kind", LIBRARIES)
def test_an_estimator_learns_and_its_file_answers_as_it_did(tmp_path, kind):
    told, result = fitted(tmp_path, kind)
    rows = make_rows(1003)
    assert Spending.of_json(told["spent"]).seconds(Spent.PRODUCTIVE) > 0
    assert roc_auc(rows.y_test, result.probabilities) > 0.8
    content = result.estimator[FILES[kind]]
    assert not content.startswith(b"\x80")  # as pickle begins
    logits = EstimatorNetwork(predictor_of(kind, content))(torch.from_numpy(rows.x_test))
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), result.probabilities, atol=1e-6)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_boosting_stops_early_and_tells_its_curves(tmp_path, kind):
    _, result = fitted(tmp_path, kind)
    curve = next(points for name, points in result.history.items() if name.startswith("held_out_"))
    assert 10 < len(curve) < 400
    best = min(range(len(curve)), key=lambda at: curve[at][1])
    assert len(curve) - 1 - best <= 10


@pytest.mark.parametrize("kind", LIBRARIES)
def test_the_same_rows_and_seed_give_the_same_file(tmp_path, kind):
    _, one = fitted(tmp_path / "one", kind)
    _, other = fitted(tmp_path / "other", kind)
    if kind != "sklearn":  # skops writes the time into its archive
        assert one.estimator == other.estimator
    assert np.array_equal(one.probabilities, other.probabilities)


def test_an_error_of_the_projects_code_is_told_with_its_place(tmp_path):
    (tmp_path / "poison").touch()
    shutil.copy(PROJECT, tmp_path / "clicks.py")
    rows: Any = InMemory(100)
    told = fit_and_keep(WorkerTask(str(tmp_path / "clicks.py"), "click", rows, f"file://{tmp_path}/run", 1))
    assert told["failed"]
    assert "ZeroDivisionError: the well is poisoned" in told["told"]


class Foreign:
    """Not of scikit-learn: loading it would import this module."""

    def predict_proba(self, x):
        return np.full((len(x), 2), 0.5)


def test_a_file_with_foreign_types_is_neither_written_nor_read():
    skops = pytest.importorskip("skops.io")
    with pytest.raises(UserError, match="Foreign, which is not scikit-learn's"):
        write_estimator("sklearn", Foreign())
    with pytest.raises(UserError, match="not scikit-learn's"):
        predictor_of("sklearn", skops.dumps(Foreign()))


def test_what_is_not_of_the_library_or_not_fitted_is_told():
    pytest.importorskip("xgboost")
    with pytest.raises(UserError, match="cannot be written as xgboost"):
        write_estimator("xgboost", Foreign())
    with pytest.raises(UserError, match="not a probability each"):
        probabilities_of(lambda x: np.full(len(x), 3.0), np.zeros((4, 2), dtype=np.float32))
    run = EstimatorRun(make_rows(100), "xgboost", 0, 1)
    assert tuple(run.inputs) == INPUTS
    with pytest.raises(UserError, match="early_stopping=0"):
        run.fit(None, early_stopping=0)


def test_a_damaged_file_is_told():
    pytest.importorskip("xgboost")
    with pytest.raises((UserError, IntegrityError, ValueError)):
        predictor_of("xgboost", b"no model")
    assert is_fitted(Foreign())

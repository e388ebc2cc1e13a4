"""An estimator becomes a registered version as a network does, and is trained again to the same bytes."""

import shutil
from pathlib import Path

import pytest
import torch

from rayplat.core.project.load import load_project
from rayplat.registry.artifact import read_artifact
from rayplat.registry.estimators import read_estimator
from rayplat.train.metrics import roc_auc
from rayplat.train.reproduce import reproduce
from rayplat.train.worker import TrainFunctionError
from tests.train.estimators.test_estimators import LIBRARIES
from tests.train.synthetic import make_rows
from tests.train.test_trainer import Bench

pytestmark = [
    pytest.mark.ray,
    # MLflow 3.17 uses a loader option that SQLAlchemy 2.1 deprecates; the call is in MLflow's own module.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning:mlflow"),
]
TREES = Path(__file__).parents[1] / "projects/trees.py"


@pytest.mark.parametrize(
    ("kind", "curve"),
    [
        ("xgboost", "held_out_logloss"),
        pytest.param("lightgbm", "held_out_binary_logloss", marks=pytest.mark.slow),
        pytest.param("sklearn", None, marks=pytest.mark.slow),
    ],
)
def test_an_estimator_is_trained_registered_read_for_serving_and_reproduced(
    ray_session, tmp_path, kind, curve
):
    pytest.importorskip(LIBRARIES[kind])
    bench = Bench(tmp_path)
    shutil.copy(TREES, tmp_path / "clicks.py")
    (tmp_path / "kind.txt").write_text(kind)
    outcome = bench.train()
    assert outcome.version == 1
    assert outcome.metrics["roc_auc"] > 0.8
    tensors, manifest = read_artifact(outcome.artifact_uri, outcome.manifest_sha256)
    assert tensors == {}
    estimator = read_estimator(outcome.artifact_uri, manifest, outcome.manifest_sha256)
    assert estimator is not None
    rows = make_rows()
    probabilities = torch.sigmoid(estimator(torch.from_numpy(rows.x_test))).numpy()
    assert roc_auc(rows.y_test, probabilities) == pytest.approx(outcome.metrics["roc_auc"])
    run = bench.registry.run(outcome.run_id)
    assert run.params["kind"] == kind
    if curve is not None:
        assert len(bench.registry.curves(outcome.run_id, [curve])[curve]) > 10
    assert bench.train().resumed

    project = load_project(str(tmp_path / "clicks.py"))
    again = reproduce(bench.settings, project, bench.registry, outcome.run_id, lambda text, _: None)
    assert (again.same, again.differs) == (True, ())


def test_an_estimators_error_stops_at_once(ray_session, tmp_path):
    bench = Bench(tmp_path)
    shutil.copy(TREES, tmp_path / "clicks.py")
    (tmp_path / "poison").touch()
    with pytest.raises(TrainFunctionError, match=r"clicks\.py:.*the well is poisoned"):
        bench.train()

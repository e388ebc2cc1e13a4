"""Training on a real Ray: the whole way to a registered version, with workers and drivers killed."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.events import Event, EventBus, FeatureViewApplied, ModelRegistered, RunFinished
from rayplat.core.project.load import load_project
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.training_set import TrainingSet
from rayplat.registry.artifact import read_artifact, read_artifact_file
from rayplat.registry.store import Registry
from rayplat.train.goodput.spending import Spent
from rayplat.train.metrics import all_metrics
from rayplat.train.record import read_goodput, read_record
from rayplat.train.reproduce import Reproduction, reproduce
from rayplat.train.trainer import TrainOutcome, train_model
from rayplat.train.worker import TrainFunctionError

from .synthetic import make_rows
from .test_loop import TOLERANCE

pytestmark = [
    pytest.mark.ray,
    # MLflow 3.17 uses a loader option that SQLAlchemy 2.1 deprecates; the call is in MLflow's own module.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning:mlflow"),
]

PROJECT = Path(__file__).parent / "projects" / "clicks.py"
FEATURES = ("own__a", "own__b", "own__c", "own__d")


def training_set(settings: Settings) -> TrainingSet:
    """The synthetic rows as a training set, in a shuffled order: the order in files means nothing."""
    rows = make_rows()
    x, y = np.concatenate([rows.x_train, rows.x_test]), np.concatenate([rows.y_train, rows.y_test])
    train = np.arange(len(y)) < len(rows.y_train)
    columns = {
        "visit": pa.array(np.arange(len(y))),
        "at": pa.array(np.arange(len(y)) * 1_000_000, pa.timestamp("us", "UTC")),
        "label": pa.array(y.astype(bool)),
        "split": pa.array(np.where(train, "train", "test")),
    }
    columns |= {name: pa.array(x[:, at]) for at, name in enumerate(FEATURES)}
    order = np.random.default_rng(0).permutation(len(y))
    table = pa.table(columns).take(pa.array(order))
    lake = Lakehouse(settings)
    snapshot = lake.ensure_schema("training.click", table.schema).overwrite(table)
    return TrainingSet(
        "training.click", snapshot, "d" * 64, int(train.sum()), int((~train).sum()), 0, {"raw.visits": 1}
    )


class Bench:
    """A project with its faults folder, its stores, and what training it tells."""

    def __init__(self, folder: Path, rows: TrainingSet | None = None) -> None:
        self.folder = folder
        self.settings = Settings(home=folder / "home")
        (folder / "faults").mkdir(parents=True)
        shutil.copy(PROJECT, folder / "clicks.py")
        self.rows = rows or training_set(self.settings)
        self.registry = Registry(self.settings)
        self.events: list[Event] = []
        self.notes: list[str] = []

    def ask(self, fault: str) -> None:
        (self.folder / "faults" / fault).touch()

    def train(self, workers: tuple[int, int] = (2, 2)) -> TrainOutcome:
        project = load_project(str(self.folder / "clicks.py"))
        model = replace(project.models[0], workers=workers)
        bus = EventBus()
        bus.subscribe(Event, self.events.append)
        return train_model(
            self.settings,
            project,
            model,
            self.rows,
            self.registry,
            bus,
            lambda text, _: self.notes.append(text),
        )


def weights(outcome: TrainOutcome) -> torch.Tensor:
    tensors, _ = read_artifact(outcome.artifact_uri, outcome.manifest_sha256)
    return torch.cat([t.flatten() for _, t in sorted(tensors.items())])


@pytest.fixture(scope="module")
def undisturbed(ray_session, tmp_path_factory):
    """A run that nothing happens to, and its bench."""
    import warnings

    bench = Bench(tmp_path_factory.mktemp("undisturbed"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bench, bench.train()


def test_a_run_becomes_a_registered_version_with_all_that_explains_it(undisturbed):
    bench, outcome = undisturbed
    assert outcome.version == 1
    assert not outcome.resumed
    applied = [e for e in bench.events if isinstance(e, FeatureViewApplied)]
    model = load_project(str(bench.folder / "clicks.py")).models[0]
    assert {e.view for e in applied} == {view.name for view in model.features}
    assert [type(e) for e in bench.events[len(applied) :]] == [RunFinished, ModelRegistered]
    assert any(note.startswith("epoch 4 of 4: train_loss") for note in bench.notes)

    _, manifest = read_artifact(outcome.artifact_uri, outcome.manifest_sha256)
    assert manifest.inputs == FEATURES
    assert manifest.training.snapshot_id == bench.rows.snapshot_id
    assert (manifest.training.rows_train, manifest.training.rows_test) == (1003, 501)
    assert manifest.profile["own__a"].null_share == pytest.approx(0.1, abs=0.03)
    assert manifest.features[0].names == FEATURES
    assert manifest.code.git_commit == "unknown"  # a folder under /tmp is no repository
    assert set(manifest.environment) >= {"python", "torch", "ray"}

    table = pyarrow.parquet.read_table(
        io.BytesIO(read_artifact_file(outcome.artifact_uri, "evaluation.parquet"))
    )
    label = table["label"].to_numpy()
    assert label.tolist() == make_rows().y_test.astype(bool).tolist()
    assert all_metrics(label, table["probability"].to_numpy()) == pytest.approx(outcome.metrics)
    assert outcome.metrics["roc_auc"] > outcome.baselines["gradient_boosting"]["roc_auc"] - 0.03
    assert outcome.baselines["base_rate"]["roc_auc"] == 0.5

    run = bench.registry.run(outcome.run_id)
    assert run.metrics["test.roc_auc"] == outcome.metrics["roc_auc"]
    assert run.params["rows_train"] == "1003"
    curve = bench.registry.curves(outcome.run_id, ["train_loss"])["train_loss"]
    assert [step for step, _ in curve] == [0, 1, 2, 3]


def test_what_is_registered_is_not_trained_again(undisturbed):
    bench, outcome = undisturbed
    started = time.monotonic()
    told = len(bench.events)
    again = bench.train()
    assert again == replace(outcome, resumed=True)
    assert time.monotonic() - started < 20  # no worker group starts as fast on a busy machine
    assert len(bench.registry.versions("click")) == 1
    assert len(bench.events) == told  # nothing happened that was not told before
    assert not (bench.settings.home / "warehouse/runs/click").exists() or not list(
        (bench.settings.home / "warehouse/runs/click").iterdir()
    )


def test_an_error_in_the_projects_code_stops_at_once_and_says_where(ray_session, tmp_path):
    bench = Bench(tmp_path)
    bench.ask("poison")
    with pytest.raises(TrainFunctionError) as caught:
        bench.train(workers=(1, 1))
    source = (tmp_path / "clicks.py").read_text().splitlines()
    line = next(at for at, text in enumerate(source, 1) if "raise ZeroDivisionError" in text)
    assert f"clicks.py:{line}: ZeroDivisionError: the well is poisoned" in caught.value.what
    assert isinstance(caught.value, UserError)
    assert not any("lost" in note for note in bench.notes)
    assert bench.registry.versions("click") == []


def test_a_worker_killed_in_an_epoch_changes_nothing(undisturbed, tmp_path):
    bench = Bench(tmp_path)
    bench.ask("kill-worker-1-epoch-2")
    outcome = bench.train()
    assert not list((tmp_path / "faults").iterdir())
    assert any("was lost; going on at step" in note for note in bench.notes)
    # The survivor went on alone until the next one was ready: the same sums in another order.
    assert torch.allclose(weights(outcome), weights(undisturbed[1]), atol=TOLERANCE, rtol=0)
    assert outcome.metrics == pytest.approx(undisturbed[1].metrics, abs=TOLERANCE)
    curve = bench.registry.curves(outcome.run_id, ["train_loss"])["train_loss"]
    assert [step for step, _ in curve] == [0, 1, 2, 3]


DRIVER = """
import sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from rayplat.cluster.session import connect
from rayplat.core.settings import Settings
from tests.train.test_trainer import Bench, DRIVEN
connect(Settings(home=Path(sys.argv[2])))
bench = Bench.__new__(Bench)
bench.__dict__ |= DRIVEN(Path(sys.argv[3]))
print(bench.train(workers=(1, 1)))
"""


def DRIVEN(folder: Path) -> dict[str, object]:  # read by the child above
    """The parts of a bench whose stores exist."""
    settings = Settings(home=folder / "home")
    (snapshot,) = [s.snapshot_id for s in Lakehouse(settings).table("training.click").history()]
    rows = TrainingSet("training.click", snapshot, "d" * 64, 1003, 501, 0, {"raw.visits": 1})
    return {
        "folder": folder,
        "settings": settings,
        "rows": rows,
        "registry": Registry(settings),
        "events": [],
        "notes": [],
    }


def test_a_driver_killed_and_started_again_with_more_workers_gives_one_version(
    ray_session, undisturbed, tmp_path
):
    bench = Bench(tmp_path)
    bench.ask("slow")
    root = str(Path(__file__).parents[2])
    child = subprocess.Popen([sys.executable, "-c", DRIVER, root, str(ray_session.home), str(tmp_path)])
    runs = bench.settings.home / "warehouse/runs/click"
    while not list(runs.glob("*/checkpoints/step-*-00002")):  # the test's own timeout ends it
        assert child.poll() is None, "the driver ended by itself"
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    (tmp_path / "faults" / "slow").unlink()

    outcome = bench.train(workers=(1, 2))
    assert outcome.resumed
    assert outcome.version == 1
    assert [v.version for v in bench.registry.versions("click")] == [1]
    # One worker before the kill: the same sums in another order (see test_loop's TOLERANCE).
    assert torch.allclose(weights(outcome), weights(undisturbed[1]), atol=TOLERANCE, rtol=0)


def test_the_run_is_tracked_with_what_its_time_went_into_and_what_it_ran_on(undisturbed):
    bench, outcome = undisturbed
    run = bench.registry.run(outcome.run_id)
    assert 0 < run.metrics["goodput"] < 1
    report = read_goodput(outcome.artifact_uri, outcome.manifest_sha256)
    assert report is not None
    assert report.furthest == 64
    assert run.metrics["goodput.productive_s"] == pytest.approx(report.spending.seconds(Spent.PRODUCTIVE))
    assert (run.params["precision"], run.params["kind"], run.params["worlds"]) == ("auto", "torch", "2")
    assert run.params["hardware.gpu"] == "none"
    lock = read_record(outcome.artifact_uri, "environment.lock")
    assert "torch==" in lock
    shown = {
        path.name for path in (bench.settings.home / "warehouse/mlflow/click").rglob("*.*") if path.is_file()
    }
    assert {"run.json", "environment.lock", "goodput.json"} <= shown


def test_a_run_trained_again_has_the_same_weights_and_says_what_has_changed_since(undisturbed):
    bench, outcome = undisturbed

    def again() -> Reproduction:
        project = load_project(str(bench.folder / "clicks.py"))
        return reproduce(bench.settings, project, bench.registry, outcome.run_id, lambda text, _: None)

    first = again()
    assert (first.same, first.largest_difference, first.differs) == (True, 0.0, ())
    source = bench.folder / "clicks.py"
    kept = source.read_text()
    try:
        source.write_text(kept.replace("lr=0.01", "lr=0.02"))
        other = again()
    finally:
        source.write_text(kept)
    assert not other.same
    assert other.largest_difference is not None
    assert other.largest_difference > 0
    assert other.differs == ("code: the project's files are not those of commit unknown",)
    assert len(bench.registry.versions("click")) == 1
    with pytest.raises(NotFoundError):
        reproduce(bench.settings, load_project(str(source)), bench.registry, "0" * 32, lambda text, _: None)

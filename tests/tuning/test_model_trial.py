import numpy as np
import pytest

from rayplat.core.errors import UserError
from rayplat.train.rows import Rows
from rayplat.tuning.model_trial import ModelTrial, check_metrics, for_trials
from rayplat.tuning.stopping import AshaStopping
from rayplat.tuning.trial import Start, Trial, carry_out

PROJECT = """
from datetime import datetime
import polars as pl
import rayplat as rp

clicks = rp.Project("clicks", owner="ops@example.com")
asked = clicks.table("raw.asked", key="id", event_time="at",
    columns={"id": "int64", "at": "timestamp", "own": "float64"})
outcome = clicks.table("raw.outcome", key="id", event_time="at",
    columns={"id": "int64", "at": "timestamp", "good": "bool"})
view = clicks.request_view("own", source=asked, features={"a": pl.col("own"), "b": pl.col("own") * 2})

def network(inputs):
    from rayplat.train.tabular import TabularNet
    return TabularNet(inputs, hidden=(8,))

@clicks.model("click", rows=asked, label=rp.Label(outcome, pl.col("good"), on="id"), features=[view],
    train_until="2026-01-01", test_until="2026-02-01", network=network,
    space=rp.Space(lr=rp.Float(1e-4, 1e-1, log=True), epochs=rp.Int(1, 4)))
def train(run):
    from rayplat.train.loop import fit
    fit(run, epochs=run.params["epochs"], batch_size=256, lr=run.params["lr"])
"""


def rows(count=1500):
    random = np.random.default_rng(1)
    x = random.normal(size=(count, 2)).astype(np.float32)
    y = (x[:, 0] + 0.3 * random.normal(size=count) > 0).astype(np.float32)
    return Rows(("own__a", "own__b"), x[:1000], y[:1000], x[1000:], y[1000:])


@pytest.fixture
def address(tmp_path):
    (tmp_path / "clicks.py").write_text(PROJECT)
    return str(tmp_path / "clicks.py")


def test_trials_are_measured_on_the_last_training_rows_and_never_see_the_test_rows():
    whole = rows()
    cut = for_trials(whole)
    assert (len(cut.y_train), len(cut.y_test)) == (800, 200)
    assert np.array_equal(np.concatenate([cut.x_train, cut.x_test]), whole.x_train)


def test_one_class_on_a_side_is_refused():
    whole = rows()
    whole.y_train[800:] = 1.0
    with pytest.raises(UserError, match="one class only"):
        for_trials(whole)


def test_a_trial_trains_the_projects_function_with_its_values_and_reports_each_epoch(address):
    tried = ModelTrial(address, "click", for_trials(rows()), ("roc_auc", "train_seconds"))
    heard = []
    ended = carry_out(tried, Start(0, {"lr": 0.05, "epochs": 3}), lambda r: heard.append(r) is None)
    assert (ended.state, ended.error) == ("complete", "")
    assert ended.values[0] > 0.9
    assert ended.values[1] > 0
    assert [step for step, _ in heard] == [1, 2]
    assert ended.reports == ((3, pytest.approx(ended.values[0])),)
    weak = carry_out(tried, Start(1, {"lr": 0.0001, "epochs": 1}), lambda r: True)
    assert weak.values[0] < ended.values[0]


def test_a_trial_of_a_project_can_be_stopped_at_an_epoch(address):
    tried = ModelTrial(address, "click", for_trials(rows()), ("log_loss",))
    asha = AshaStopping()
    asha.goes_on(0, 1, 0.0)
    ended = carry_out(tried, Start(1, {"lr": 0.01, "epochs": 4}), lambda r: asha.goes_on(1, *r))
    assert ended.state == "stopped"
    assert len(ended.values) == 1


def test_a_trial_that_was_killed_after_its_last_epoch_is_complete_and_never_stopped_there(address, tmp_path):
    tried = ModelTrial(address, "click", for_trials(rows()), ("log_loss",))
    start = Start(0, {"lr": 0.05, "epochs": 2}, (tmp_path / "state").as_uri())
    whole = carry_out(tried, start, lambda r: True)
    again = carry_out(
        tried, start, lambda r: False
    )  # its last checkpoint was there, its end was not recorded
    assert (again.state, again.values) == ("complete", whole.values)
    assert again.reports == whole.reports[-1:]


@pytest.mark.parametrize("metrics", [[], ["train_seconds"], ["accuracy"]])
def test_what_is_not_measured_is_refused(metrics):
    assert Trial(Start(0), lambda r: True).params == {}
    with pytest.raises(UserError):
        check_metrics(metrics)

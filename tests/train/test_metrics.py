import math

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from rayplat.core.errors import UserError
from rayplat.core.project.model import METRICS
from rayplat.train.metrics import (
    LOG_LOSS_EPS,
    all_metrics,
    calibration_error,
    log_loss,
    pr_auc,
    precision_recall,
    reliability,
    roc_auc,
)


def sample(seed: int, rows: int = 3000, ties: bool = False):
    random = np.random.default_rng(seed)
    p = random.beta(1.5, 4, rows)
    p = np.round(p, 1) if ties else p
    return (random.random(rows) < p * 0.9).astype(np.float32), p.astype(np.float32)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_metrics_are_those_of_scikit_learn(seed, ties):
    y, p = sample(seed, ties=ties)
    assert roc_auc(y, p) == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
    assert pr_auc(y, p) == pytest.approx(sk.average_precision_score(y, p), abs=1e-12)
    clipped = np.clip(p.astype(np.float64), LOG_LOSS_EPS, 1 - LOG_LOSS_EPS)
    assert log_loss(y, p) == pytest.approx(sk.log_loss(y, clipped), abs=1e-12)


def test_the_calibration_bins_are_those_of_scikit_learn():
    y, p = sample(3, rows=5000)
    rate, mean, rows = reliability(y, p)
    expected_rate, expected_mean = calibration_curve(y, p, n_bins=10, strategy="quantile")
    assert rows.tolist() == [500] * 10
    assert np.abs(rate - expected_rate).max() < 0.005  # scikit-learn's edges are interpolated
    assert np.abs(mean - expected_mean).max() < 0.001
    assert calibration_error(y, p) == pytest.approx(np.mean(np.abs(rate - mean)))


def test_the_curve_is_that_of_scikit_learn():
    y, p = sample(1, ties=True)
    precision, recall = precision_recall(y, p)
    expected_precision, expected_recall, _ = sk.precision_recall_curve(y, p)
    assert precision == pytest.approx(expected_precision[:-1][::-1])
    assert recall == pytest.approx(expected_recall[:-1][::-1])


def test_a_constant_prediction_is_as_calibrated_as_its_mean_and_ranks_nothing():
    y = np.array([1, 0, 0, 0], dtype=np.float32)
    p = np.full(4, 0.25)
    assert calibration_error(y, p) == 0.0
    assert roc_auc(y, p) == 0.5
    assert pr_auc(y, p) == 0.25
    assert calibration_error(y, np.full(4, 0.5)) == 0.25


def test_the_order_of_the_rows_changes_nothing():
    y, p = sample(2, ties=True)
    order = np.random.default_rng(0).permutation(len(y))
    assert all_metrics(y[order], p[order]) == pytest.approx(all_metrics(y, p), abs=1e-12)
    assert tuple(all_metrics(y, p)) == METRICS


def test_a_certain_mistake_costs_sixteen_nats_not_infinity():
    assert log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(-math.log(LOG_LOSS_EPS))


def test_one_class_has_no_ranking():
    assert math.isnan(roc_auc(np.ones(3), np.array([0.1, 0.2, 0.3])))
    assert math.isnan(pr_auc(np.zeros(3), np.array([0.1, 0.2, 0.3])))


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan")])
def test_what_is_no_probability_is_refused_with_its_value(bad):
    with pytest.raises(UserError, match=f"{bad} is not a probability"):
        log_loss(np.array([1.0, 0.0]), np.array([0.5, bad]))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="do not fit"):
        roc_auc(np.ones(3), np.ones(2))
    with pytest.raises(UserError, match="do not fit"):
        roc_auc(np.ones(0), np.ones(0))

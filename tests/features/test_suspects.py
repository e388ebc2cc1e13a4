"""The area under the ROC curve of single features, against scikit-learn and against the definition."""

import random
import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rayplat.features.suspects import single_auc, suspects


@pytest.fixture
def rng():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def test_the_area_is_that_of_scikit_learn(rng):
    for distinct in (2, 5, 1000):
        label = rng.random(500) < 0.3
        values = (rng.integers(0, distinct, 500) - label * 2).astype(np.float32)
        want = roc_auc_score(label, values)
        # Few values may also be judged by their shares, which is never less.
        assert single_auc(values, label) >= max(want, 1 - want) - 1e-12
        if distinct == 1000:
            assert single_auc(values, label) == pytest.approx(max(want, 1 - want), abs=1e-12)


def test_pairs_are_counted_one_by_one(rng):
    label = rng.random(40) < 0.5
    values = rng.integers(0, 6, 40).astype(np.float32)
    values[rng.random(40) < 0.2] = np.nan
    areas = []
    for stands_for in (-np.inf, np.inf):
        filled = np.where(np.isnan(values), stands_for, values)
        won = sum(
            (filled[i] > filled[j]) + (filled[i] == filled[j]) / 2
            for i in np.flatnonzero(label)
            for j in np.flatnonzero(~label)
        )
        area = won / (label.sum() * (~label).sum())
        areas += [area, 1 - area]
    assert single_auc(values, label) == pytest.approx(max(areas), abs=1e-12)


@pytest.mark.parametrize(
    ("values", "label", "area"),
    [
        ([1, 2, 3, 4], [False, False, True, True], 1.0),
        ([4, 3, 2, 1], [False, False, True, True], 1.0),
        ([5, 5, 5, 5], [False, True, False, True], 0.5),
        ([1, 2, 3, 4], [True, True, True, True], 0.5),
        ([np.nan, np.nan, 1, 2], [True, True, False, False], 1.0),
        ([np.nan] * 4, [False, True, False, True], 0.5),
        ([0.0, -0.0, 0.0, -0.0], [False, True, False, True], 0.5),
        ([-np.inf, -1, 1, np.inf], [False, False, True, True], 1.0),
    ],
)
def test_directions_constants_and_missing_values(values, label, area):
    assert single_auc(np.array(values, dtype=np.float32), np.array(label)) == area


def test_a_code_whose_numbers_mean_nothing_is_found():
    code = np.tile(np.array([0, 1, 2], dtype=np.float32), 200)
    label = code == 1
    assert single_auc(code, label) == 1.0


def test_only_what_is_too_good_is_named_best_first(rng):
    label = rng.random(1000) < 0.2
    noise = rng.normal(size=1000).astype(np.float32)
    leak = (label + noise * 0.01).astype(np.float32)
    found = suspects([("fair", noise), ("leak", leak), ("same", label.astype(np.float32))], label)
    assert [s.feature for s in found] == ["leak", "same"]
    assert found[1].auc == 1.0
    assert found[0].rows == 1000
    assert suspects([("leak", leak)], label, most_rows=100)[0].rows == 100
    assert suspects([("x", noise[:0])], label[:0]) == []


def test_a_hundred_features_take_about_a_second(rng):
    label = rng.random(100_000) < 0.2
    values = [(str(i), rng.normal(size=100_000).astype(np.float32)) for i in range(20)]
    begin = time.perf_counter()
    suspects(values, label)
    # A fifteenth of 100 features x 300,000 rows; the machine may be busy.
    assert time.perf_counter() - begin < 2

"""Plots: valid SVG with the words and numbers that a reader needs, the same bytes for the same data."""

from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from rayplat.console import plots

RNG = np.random.default_rng(7)
LABEL = (RNG.random(500) < 0.3).astype(np.float64)
SCORES = {"this model": np.clip(LABEL * 0.3 + RNG.random(500) * 0.6, 0, 1), "other": RNG.random(500)}
PSI = np.array([[0.05, 0.5], [np.nan, 2.5]])

DRAWN: list[tuple[Callable[[], str], list[str]]] = [
    (lambda: plots.loss_curve({"test rows": [(0, 0.6), (1, 0.5)]}), ["test rows", "epoch"]),
    (lambda: plots.precision_recall(LABEL, SCORES), ["this model", "other", "base rate", "recall"]),
    (lambda: plots.calibration(LABEL, SCORES), ["this model", "perfect", "foretold probability"]),
    (
        lambda: plots.by_day(["01 Sep", "02 Sep"], [0.7, None], 0.75, "roc_auc"),
        ["01 Sep", "on the test period"],
    ),
    (
        lambda: plots.drift_map(["01 Sep", "02 Sep"], ["temp", "wind"], PSI, 0.2),
        ["temp", "wind", "0.50", "2.50"],
    ),
    (lambda: plots.freshness(["weather"], [1800.0], [5400.0]), ["weather", "median", "95 % are under"]),
]


@pytest.mark.parametrize(("draw", "words"), DRAWN)
def test_a_plot_is_svg_with_its_words(draw: Callable[[], str], words: list[str]) -> None:
    text = draw()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    for word in words:
        assert word in text
    assert draw() == text


def test_drift_under_the_threshold_has_no_number() -> None:
    assert "0.05" not in plots.drift_map(["01 Sep", "02 Sep"], ["temp", "wind"], PSI, 0.2)


def test_precision_over_recall_is_that_of_the_sorted_rows() -> None:
    recall, precision = plots._precision_recall(np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.8, 0.1]))
    assert recall.tolist() == [0.5, 0.5, 1.0]
    assert precision.tolist() == [1.0, 0.5, pytest.approx(2 / 3)]

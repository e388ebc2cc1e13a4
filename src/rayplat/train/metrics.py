"""Metrics of a binary classifier, from labels and probabilities.

Knows the formulas and their sources, in NumPy alone; it does not know which rows or which model.
"""

import numpy as np
from numpy.typing import NDArray

from rayplat.core.errors import UserError

LOG_LOSS_EPS = 1e-7
"""Probabilities are clipped to [eps, 1 - eps], so that one certain mistake costs 16.1 nats, not
infinity. It is the resolution of a float32 near 1."""
CALIBRATION_BINS = 10

Floats = NDArray[np.floating | np.bool_]


def roc_auc(y: Floats, p: Floats) -> float:
    """The probability that a positive is ranked above a negative, a tie counting one half.

    From the sum of the positives' mid-ranks, the Mann-Whitney U statistic (Hanley and McNeil,
    "The Meaning and Use of the Area under a ROC Curve", Radiology 143, 1982). NaN with one class only.
    """
    label, p = _checked(y, p)
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # 1-based mid-rank of each distinct value
    u = middle[inverse][label].sum() - positives * (positives + 1) / 2
    return float(u / (positives * negatives))


def pr_auc(y: Floats, p: Floats) -> float:
    """Average precision: the sum over thresholds of precision times the gain in recall.

    A step-wise sum without interpolation (Davis and Goadrich, "The Relationship Between
    Precision-Recall and ROC Curves", ICML 2006, show why). NaN without a positive.
    """
    label, p = _checked(y, p)
    positives = int(label.sum())
    if not positives:
        return float("nan")
    precision, recall = precision_recall(label, p)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall(y: Floats, p: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall at each distinct probability, taken as threshold, from high to low."""
    label, p = _checked(y, p)
    order = np.argsort(p, kind="stable")[::-1]
    ranked, hits = p[order], np.cumsum(label[order])
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # rows that are equal enter together
    return hits[last] / (last + 1.0), hits[last] / max(int(label.sum()), 1)


def log_loss(y: Floats, p: Floats) -> float:
    """Mean negative log-likelihood in nats, probabilities clipped by `LOG_LOSS_EPS`."""
    label, p = _checked(y, p)
    p = np.clip(p, LOG_LOSS_EPS, 1 - LOG_LOSS_EPS)
    return float(-np.mean(np.log(np.where(label, p, 1.0 - p))))


def calibration_error(y: Floats, p: Floats) -> float:
    """Expected calibration error over ten bins of equal mass.

    The bins' mean absolute difference of mean label and mean probability, weighted by their rows
    (Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015; bins of
    equal mass after Nixon et al., "Measuring Calibration in Deep Learning", 2019: bins of equal width
    are almost empty where a model is rarely sure). Equal probabilities are shared out by rank, so a
    constant prediction is compared with the whole mean.
    """
    label, p = _checked(y, p)
    rate, mean, rows = reliability(label, p)
    return float(np.sum(np.abs(rate - mean) * rows) / len(label))


def reliability(
    y: Floats, p: Floats, bins: int = CALIBRATION_BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean label, mean probability and number of rows of each bin of equal mass, from low to high.

    Rows of equal probability stay in one bin, so the result does not depend on the order of the rows.
    """
    label, p = _checked(y, p)
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    bin_of = np.minimum((middle * bins / len(p)).astype(np.int64), bins - 1)[inverse]
    rows = np.bincount(bin_of, minlength=bins).astype(np.float64)
    filled = rows > 0
    rate = np.bincount(bin_of, weights=label, minlength=bins)[filled] / rows[filled]
    mean = np.bincount(bin_of, weights=p, minlength=bins)[filled] / rows[filled]
    return rate, mean, rows[filled]


def all_metrics(y: Floats, p: Floats) -> dict[str, float]:
    """Every metric of `rayplat.core.project.model.METRICS`, by name."""
    return {
        "roc_auc": roc_auc(y, p),
        "pr_auc": pr_auc(y, p),
        "log_loss": log_loss(y, p),
        "calibration_error": calibration_error(y, p),
    }


def _checked(y: Floats, p: Floats) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    label, probability = np.asarray(y), np.asarray(p, dtype=np.float64)
    if label.shape != probability.shape or label.ndim != 1 or not len(label):
        raise UserError(
            f"labels of shape {label.shape} do not fit probabilities of shape {probability.shape}",
            "give two vectors of the same length, at least one long",
        )
    if not np.all((probability >= 0) & (probability <= 1)):
        wrong = probability[~((probability >= 0) & (probability <= 1))][0]
        raise UserError(f"{wrong} is not a probability", "give values in [0, 1]; for logits, apply a sigmoid")
    return label.astype(bool), probability

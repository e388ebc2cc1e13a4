"""The population stability index: how far values have moved from earlier ones, and what chance would do.

Knows two samples as arrays; it does not know where they come from or what is too far. (The drift of
served features is measured in the same way on a higher floor, which data may not import.)
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

EPSILON = 1e-4
"""What is added to each share before a logarithm: an empty bucket else makes the index infinite."""

_BUCKETS = 10


def edges_of(values: Floats) -> Floats:
    """The inner edges of buckets that hold about a tenth of `values` each; NaN is left out.

    A column of at most ten distinct values has the midpoints between them: deciles of a 0/1 column
    collapse to one value, and no shift between 0 and 1 would be seen.
    """
    there = values[np.isfinite(values)]
    distinct = np.unique(there)
    if len(distinct) <= _BUCKETS:
        middle: Floats = (distinct[1:] + distinct[:-1]) / 2
        return middle
    deciles: Floats = np.unique(np.quantile(there, np.arange(1, _BUCKETS) / _BUCKETS))
    return deciles


def counts_of(values: Floats, edges: Floats) -> Counts:
    """How many values fall into each of the len(edges) + 1 buckets, and last how many are missing (NaN)."""
    there = values[~np.isnan(values)]
    buckets = np.searchsorted(edges, there, side="right")
    counts = np.bincount(buckets, minlength=len(edges) + 1)
    return np.append(counts, len(values) - len(there)).astype(np.int64)


def psi(expected: Counts, actual: Counts) -> float:
    """The population stability index of two histograms over the same buckets, in nats.

    The sum of (a - e) * ln(a / e) over the buckets' shares: the symmetric divergence J of Kullback and
    Leibler, "On Information and Sufficiency" (1951), section 2, under the name it has in credit scoring
    (Siddiqi, "Credit Risk Scorecards", 2006). Each share p is smoothed to (p + EPSILON) / (1 + EPSILON *
    number of buckets). Both histograms must hold at least one value.
    """
    e, a = _shares(expected), _shares(actual)
    return float(np.sum((a - e) * np.log(a / e)))


def chance(expected: Counts, actual: Counts) -> float:
    """The index that two samples of one distribution, as large as these, stay under 99 times of 100.

    With N and M values and B buckets it is about (1/N + 1/M) times a chi-squared variable of B - 1
    degrees of freedom (Yurdakul, "Statistical Properties of Population Stability Index", 2018, chapter
    3); its quantile is approximated after Wilson and Hilferty (1931).
    """
    freedom = max(int(np.count_nonzero(expected + actual)) - 1, 1)
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + 2.3263478740408408 * spread**0.5) ** 3
    return float(quantile * (1 / expected.sum() + 1 / actual.sum()))


def _shares(counts: Counts) -> Floats:
    shares: Floats = (counts / counts.sum() + EPSILON) / (1 + EPSILON * len(counts))
    return shares

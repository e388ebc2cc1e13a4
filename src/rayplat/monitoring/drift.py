"""Drift: how far a feature's values have moved from the ones that the model learned from.

Knows distributions over fixed buckets and distances between them; it does not know where values come
from, and reaches neither Ray nor torch.

Buckets: edges e1 < e2 < ... < ek cut the numbers into (-inf, e1), [e1, e2), ..., [ek, inf), as in the
training profile; one bucket more, the last, holds the missing values (NaN), so that a feed that goes
silent is drift too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rayplat.core.errors import UserError
from rayplat.registry.profile import FeatureProfile, proportions

Floats = npt.NDArray[np.float64]

EPSILON = 1e-4
"""What is added to each proportion before a logarithm: an empty bucket else makes the PSI infinite."""


@dataclass(frozen=True, slots=True)
class Drifted:
    """How far values are from a profile.

    Attributes:
        psi: population stability index, in nats.
        jensen_shannon: Jensen-Shannon distance, 0 (same) to 1 (nothing in common).
        noise: the PSI that values from an unchanged world stay under in 99 of 100 samples of this size.
        missing: the share of missing values.
        rows: how many values were compared.
    """

    psi: float
    jensen_shannon: float
    noise: float
    missing: float
    rows: int

    def over(self, limit: float) -> bool:
        """Whether this is drift: over `limit`, and more than chance does with so few rows."""
        return self.psi > limit and self.psi > self.noise


def profile(values: npt.ArrayLike, edges: Sequence[float]) -> Floats:
    """The share of `values` (1-D, NaN is missing) in each bucket: k + 1 of numbers, then the missing.

    Raises:
        UserError: the edges do not rise, or there is no value.
    """
    cuts = np.asarray(edges, dtype=np.float64)
    if not np.all(np.diff(cuts) > 0) or not np.all(np.isfinite(cuts)):
        raise UserError(f"the edges {list(edges)} of a profile do not rise", "give strictly rising edges")
    flat = np.asarray(values, dtype=np.float64).ravel()
    if len(flat) == 0:
        raise UserError("there are no values to make a profile of", "give at least one row")
    return _with_missing(proportions(flat, cuts), float(np.isnan(flat).mean()))


def expected_shares(training: FeatureProfile) -> Floats:
    """The shares of the training rows in the same buckets as `profile` counts."""
    return _with_missing(np.asarray(training.proportions, dtype=np.float64), training.null_share)


def psi(expected: npt.ArrayLike, actual: npt.ArrayLike) -> float:
    """Population stability index: the sum of (a - e) * ln(a / e) over the buckets.

    It is the symmetric divergence J of Kullback and Leibler, "On Information and Sufficiency" (1951),
    section 2, under the name it has in credit scoring: Siddiqi, "Credit Risk Scorecards" (2006), whose rule
    of thumb is: under 0.1 no change, over 0.25 a large one. Each proportion p is first smoothed to
    (p + EPSILON) / (1 + EPSILON * number of buckets).

    Args:
        expected: proportions by bucket, as in training.
        actual: proportions of the same buckets.

    Raises:
        UserError: the two do not have the same buckets.
    """
    e, a = _smoothed(expected), _smoothed(actual)
    _same_buckets(e, a)
    return float(np.sum((a - e) * np.log(a / e)))


def jensen_shannon(expected: npt.ArrayLike, actual: npt.ArrayLike) -> float:
    """Jensen-Shannon distance, in [0, 1]: the square root of the divergence in bits.

    Lin, "Divergence Measures Based on the Shannon Entropy" (1991), eq. 4.1 with equal weights; that its
    square root is a metric: Endres and Schindelin, "A New Metric for Probability Distributions" (2003).

    Raises:
        UserError: the two do not have the same buckets.
    """
    p, q = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    _same_buckets(p, q)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(min(max(divergence, 0.0), 1.0)))


def noise(buckets: int, expected_rows: int, actual_rows: int) -> float:
    """The PSI that two samples of one distribution stay under with probability 0.99.

    With N and M rows and B buckets the PSI is about (1/N + 1/M) times a chi-squared variable of B - 1
    degrees of freedom (Yurdakul, "Statistical Properties of Population Stability Index", 2018, chapter 3);
    its quantile is approximated after Wilson and Hilferty (1931). 0 rows in training means: not known,
    taken as very many.
    """
    freedom = max(buckets - 1, 1)
    z99 = 2.3263478740408408
    spread = 2 / (9 * freedom)
    chi_squared = freedom * (1 - spread + z99 * spread**0.5) ** 3
    return float(chi_squared * ((1 / expected_rows if expected_rows else 0.0) + 1 / actual_rows))


def drift(training: FeatureProfile, values: npt.ArrayLike) -> Drifted:
    """Compare `values` (1-D, NaN is missing) with the training profile of their feature.

    For the PSI the shares of few values are first drawn towards the training ones, by half a row a bucket
    (a Dirichlet prior with its mean there): else each bucket that a dozen values leave empty by chance
    would add about 0.7 to it. With hundreds of values it changes nothing that matters.

    Raises:
        UserError: there is no value.
    """
    expected, seen = expected_shares(training), profile(values, training.edges)
    occupied = int(np.count_nonzero((expected > 0) | (seen > 0)))
    rows = int(np.size(values))
    prior = occupied / 2
    drawn = (seen * rows + expected * prior) / (rows + prior)
    return Drifted(
        psi=psi(expected, drawn),
        jensen_shannon=jensen_shannon(expected, seen),
        noise=noise(occupied, training.rows, rows),
        missing=float(seen[-1]),
        rows=rows,
    )


def _with_missing(shares: Floats, missing: float) -> Floats:
    return np.append(shares * (1 - missing), missing)


def _smoothed(proportions: npt.ArrayLike) -> Floats:
    p = np.asarray(proportions, dtype=np.float64)
    return (p + EPSILON) / (1 + EPSILON * len(p))


def _same_buckets(expected: Floats, actual: Floats) -> None:
    if expected.shape != actual.shape:
        raise UserError(
            f"{len(expected)} expected buckets cannot be compared with {len(actual)} actual ones",
            "count both over the same edges",
        )


def _relative_entropy(p: Floats, q: Floats) -> float:
    """D(p || q) in bits; 0 * log 0 is 0 by convention."""
    there = p > 0
    return float(np.sum(p[there] * np.log2(p[there] / q[there])))

"""The profile of a feature: where its training values lie, so that drift can be measured later.

Knows the bins and how values fall into them; it does not know what distance counts as drift.
A bin i holds edges[i-1] <= value < edges[i]; there is one bin more than there are edges.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

BINS = 10
_FLOAT32 = np.finfo(np.float32)


class FeatureProfile(BaseModel):
    """How the training values of one feature are spread.

    Attributes:
        edges: inner edges of the bins, ascending, without doubles; deciles, or the midpoints between
            the values of a feature with at most ten distinct ones. Empty when all are missing.
        proportions: the share of the values that are there in each bin; sums to 1 (or all 0).
        null_share: the share of the rows where the value is missing.
        rows: how many rows were seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...]
    proportions: tuple[float, ...]
    null_share: float
    rows: int


def profile_of(values: NDArray[np.floating]) -> FeatureProfile:
    """Profile one column of floats, NaN where a value is missing."""
    there = values[~np.isnan(values)].astype(np.float64)
    edges = _edges(there)
    null_share = 1.0 - len(there) / len(values) if len(values) else 0.0
    return FeatureProfile(
        edges=tuple(float(e) for e in edges),
        proportions=tuple(float(p) for p in proportions(values, edges)),
        null_share=null_share,
        rows=len(values),
    )


def proportions(
    values: NDArray[np.floating], edges: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """The share of the values that are there in each of the len(edges) + 1 bins."""
    there = values[~np.isnan(values)].astype(np.float64)
    bins = np.searchsorted(np.asarray(edges, dtype=np.float64), there, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1).astype(np.float64)
    return counts / max(len(there), 1)


def _edges(there: NDArray[np.float64]) -> NDArray[np.float64]:
    there = np.clip(there, _FLOAT32.min, _FLOAT32.max)  # JSON has no infinity
    distinct = np.unique(there)
    if len(distinct) <= BINS:
        # Deciles of a 0/1 feature collapse to one value; then no shift between 0 and 1 would be seen.
        middle: NDArray[np.float64] = (distinct[1:] + distinct[:-1]) / 2
        return middle
    deciles: NDArray[np.float64] = np.unique(np.quantile(there, np.arange(1, BINS) / BINS))
    return deciles

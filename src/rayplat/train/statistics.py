"""What the training rows say of each input: its scale and its quantiles.

Knows how missing values are left out; it does not know what a network does with it (`tabular`).
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def mean_and_std(x: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column, missing values left out.

    Returns:
        Two float32 [columns]; NaN where a column has no value at all.
    """
    wide = x.astype(np.float64)
    there = ~np.isnan(wide)
    count = there.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, wide, 0.0).sum(axis=0) / count
        std = np.sqrt(np.where(there, (wide - mean) ** 2, 0.0).sum(axis=0) / count)
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(std.astype(np.float32))


def quantiles(x: NDArray[np.float32], bins: int) -> Tensor:
    """Edges of `bins` quantile bins of each column, missing values left out.

    Returns:
        float32 [columns, bins + 1], ascending; NaN where a column has no value at all.
    """
    points = np.linspace(0.0, 1.0, bins + 1)
    edges: NDArray[Any] = np.full((x.shape[1], bins + 1), np.nan, dtype=np.float32)
    for column, values in enumerate(x.T):
        there = values[~np.isnan(values)]
        if len(there):
            edges[column] = np.quantile(there, points)
    return torch.from_numpy(edges)

"""Rows with a pattern that can be learned, missing values, and a network to learn them."""

import numpy as np

from rayplat.train.rows import Rows

INPUTS = ("a", "b", "c", "d")


def make_rows(count: int = 1003, tests: int = 501, seed: int = 5) -> Rows:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count + tests, len(INPUTS))).astype(np.float32)
    logit = 2 * x[:, 0] - np.abs(x[:, 1]) * 1.5 + 1
    x[:, 2] = x[:, 2] * 1000 + 5000
    x[random.random(x.shape) < 0.1] = np.nan
    y = (random.random(len(x)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return Rows(INPUTS, x[:count], y[:count], x[count:], y[count:])

"""A network's probabilities, the same to the bit whatever rows were asked together.

Knows how rows are handed to a network; it does not know whose they are. A matrix product sums in an order
that depends on how many rows it has: a row alone, in a batch of five and in a table would differ in the last
bits. Rows are therefore handed over in multiples of `LANES`, row after row in memory, where the kernels of
MKL and oneDNN treat each row alike (tests/serve/test_evaluation.py tries what is installed).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayplat.core.errors import BugError

LANES = 16
"""Rows are filled up to a multiple of this."""
MOST_ROWS = 4096
"""So many rows are handed over at a time: what lies between layers stays in the caches."""


def probabilities(network: Any, x: NDArray[np.float32], model: str) -> NDArray[np.float64]:
    """The probability of the positive class of each row.

    Args:
        network: float32 tensor [rows, inputs] -> one logit a row. Rows must not depend on each other.
        x: float32 [rows, inputs], NaN where a value is missing.
        model: its name, for messages.

    Returns:
        float64 [rows].

    Raises:
        BugError: the network did not give one logit for each row, or NaN.
    """
    import torch

    made = np.empty(len(x), np.float64)
    with torch.inference_mode():
        for begin in range(0, len(x), MOST_ROWS):
            part = x[begin : begin + MOST_ROWS]
            logits = network(torch.from_numpy(_filled(part))).double().reshape(-1)
            if len(logits) != -(-len(part) // LANES) * LANES:
                raise _wrong(model, f"{len(logits)} values for {len(part)} rows")
            made[begin : begin + len(part)] = torch.sigmoid(logits)[: len(part)].numpy()
    if math.isnan(made.sum()):
        raise _wrong(model, "NaN")
    return made


def _filled(part: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, inputs = part.shape
    if rows % LANES == 0 and part.flags.c_contiguous and part.flags.writeable:
        return part
    filled = np.empty((-(-rows // LANES) * LANES, inputs), np.float32)
    filled[:rows] = part
    filled[rows:] = part[0]
    return filled


def _wrong(model: str, what: str) -> BugError:
    return BugError(
        f"the network of {model!r} gave {what}",
        "it must return one finite logit a row, also where inputs are NaN",
    )

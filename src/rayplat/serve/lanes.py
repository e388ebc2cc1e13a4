"""Few rows evaluated through memory that is used again, with the numbers of `evaluation.probabilities`.

Knows how few rows are handed to a network at the least cost; it does not know whose they are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayplat.core.errors import BugError
from rayplat.serve.evaluation import LANES


class Lanes:
    """The rows of one caller at a time.

    Args:
        network: see `evaluation.probabilities`.
        inputs: how many a row has.
        model: its name, for messages.
    """

    def __init__(self, network: Any, inputs: int, model: str) -> None:
        self._network = network
        self._model = model
        self._rows = np.zeros((LANES, inputs), np.float32)
        self._tensor: Any = None

    def probabilities(self, x: NDArray[np.float32]) -> list[float]:
        """As `evaluation.probabilities`, for at most `LANES` rows."""
        import torch

        if self._tensor is None:
            self._tensor = torch.from_numpy(self._rows)
        count = len(x)
        # What a network has written into its input does not outlast the call; other rows do not matter.
        self._rows[:count] = x
        with torch.inference_mode():
            made = torch.sigmoid(self._network(self._tensor).double().reshape(-1))
        found: list[float] = made.tolist()
        if len(found) != LANES:
            raise self._wrong(f"{len(found)} values for {LANES} rows")
        del found[count:]
        for one in found:
            if one != one:  # noqa: PLR0124  # NaN alone differs from itself
                raise self._wrong("NaN")
        return found

    def _wrong(self, what: str) -> BugError:
        return BugError(
            f"the network of {self._model!r} gave {what}",
            "it must return one finite logit a row, also where inputs are NaN",
        )

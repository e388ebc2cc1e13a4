"""Which rows a step has: a function of the seed, the epoch and the step, never of who trains.

Knows the order of samples and how it is cut; it does not know what is in a row, nor how rows are read.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rayplat.core.errors import UserError

Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """The order of the rows of one run.

    Attributes:
        rows: how many there are.
        batch_size: at most so many in a global batch.
        seed: of the run.
    """

    rows: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.batch_size < 1:
            raise UserError(f"there are {self.rows} rows in batches of {self.batch_size}", "give at least 1")

    @property
    def batches(self) -> int:
        """How many global batches an epoch has: as few as hold every row."""
        return -(-self.rows // self.batch_size)

    def permutation(self, epoch: int) -> Numbers:
        """The rows in the order of an epoch: int64 [rows], not to be written to."""
        return _permutation(self.rows, self.seed, epoch)

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the batch in it."""
        return divmod(step, self.batches)

    def size(self, batch: int) -> int:
        """How many rows a global batch has."""
        begin, end = _part(self.rows, self.batches, batch)
        return end - begin

    def share(self, epoch: Numbers, batch: int, rank: int, world: int) -> Numbers:
        """A rank's slice of a global batch: slices are disjoint, make up the batch, and differ by one row.

        Args:
            epoch: what `permutation` gave.
            batch: its number in the epoch.
        """
        begin, end = _part(self.rows, self.batches, batch)
        first, last = _part(end - begin, world, rank)
        return epoch[begin + first : begin + last].copy()


@lru_cache(maxsize=2)
def _permutation(rows: int, seed: int, epoch: int) -> Numbers:
    """Two are kept, this epoch's and the next one's: a group that begins again does not wait for it."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    order.flags.writeable = False
    return order


def _part(length: int, parts: int, number: int) -> tuple[int, int]:
    """Where a part begins and ends when a length is cut as evenly as possible, the longer ones first."""
    each, longer = divmod(length, parts)
    begin = number * each + min(number, longer)
    return begin, begin + each + (number < longer)

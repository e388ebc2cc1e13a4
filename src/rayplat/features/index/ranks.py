"""Ranks: what tells which of two rows answers, kept beside the steps for whoever extends an index.

Knows how little of it must be kept; it does not know rows. Most columns are implied by the step's time, or
are the same for all steps.
"""

from dataclasses import dataclass

import numpy as np

from rayplat.features.instants import Int64s


@dataclass(frozen=True, slots=True)
class Ranks:
    """Four columns by step; an empty one is the time of the step, one of length 1 the same for all steps."""

    event: Int64s
    known: Int64s
    offset: Int64s
    partition: Int64s

    def columns(self, time: Int64s) -> tuple[Int64s, Int64s, Int64s, Int64s]:
        """Event time, known time, offset and partition of every step.

        Args:
            time: from when on each step answers.
        """
        kept = (self.event, self.known, self.offset, self.partition)
        event, known, offset, partition = (_whole(column, time) for column in kept)
        return event, known, offset, partition


def ranks_of(time: Int64s, event: Int64s, known: Int64s, offset: Int64s, partition: Int64s) -> Ranks:
    """Keep what must be kept.

    Args:
        time: from when on each step answers.
        event, known, offset, partition: of the row that does, by step.
    """
    return Ranks(*(_kept(column, time) for column in (event, known, offset, partition)))


def _kept(column: Int64s, time: Int64s) -> Int64s:
    if not len(column) or (column == time).all():
        return np.zeros(0, np.int64)
    return column[:1].copy() if (column == column[0]).all() else column


def _whole(column: Int64s, time: Int64s) -> Int64s:
    if not len(column):
        return time
    return np.full(len(time), column[0]) if len(column) == 1 else column

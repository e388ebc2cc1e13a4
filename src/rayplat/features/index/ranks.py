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
        event, known, offset, partition = (_whole(column, time) for column in self.kept)
        return event, known, offset, partition

    @property
    def kept(self) -> tuple[Int64s, Int64s, Int64s, Int64s]:
        """The four columns as they are kept."""
        return self.event, self.known, self.offset, self.partition


def ranks_of(time: Int64s, event: Int64s, known: Int64s, offset: Int64s, partition: Int64s) -> Ranks:
    """Keep what must be kept.

    Args:
        time: from when on each step answers.
        event, known, offset, partition: of the row that does, by step.
    """
    return Ranks(*(_kept(column, time) for column in (event, known, offset, partition)))


def merged(old: tuple[Ranks, Int64s], new: tuple[Ranks, Int64s], picked: Int64s, time: Int64s) -> Ranks:
    """The ranks of steps some of which were one index's and the others another's.

    Args:
        old, new: of both, and from when on their steps answer.
        picked: by step which one it was, the new ones counted from the number of old ones on.
        time: from when on each step answers: from the same time as before.
    """
    columns = []
    for one, other in zip(old[0].kept, new[0].kept, strict=True):
        if not (len(one) or len(other)):
            columns.append(one)
        elif len(one) == len(other) == 1 and one[0] == other[0] and not (time == one[0]).all():
            columns.append(one.copy())
        else:
            both = np.concatenate([_whole(one, old[1]), _whole(other, new[1])])
            columns.append(_kept(both[picked], time))
    return Ranks(*columns)


def _kept(column: Int64s, time: Int64s) -> Int64s:
    if not len(column) or (column == time).all():
        return np.zeros(0, np.int64)
    return column[:1].copy() if (column == column[0]).all() else column


def _whole(column: Int64s, time: Int64s) -> Int64s:
    if not len(column):
        return time
    return np.full(len(time), column[0]) if len(column) == 1 else column

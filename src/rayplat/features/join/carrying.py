"""Values that travelled with the best rows, as machine code: from questions to asking rows.

Knows arrays of numbers only: at most four columns of values as integers, and the bits of those that are
lacking; it does not know which row is the best, nor how questions came by its values, which is `kernels`'.
"""

from rayplat.core.compiled import compiled
from rayplat.features.instants import Int64s
from rayplat.features.join.arrays import Bools, Values

MOST = 4
"""So many columns can be carried."""

Four = tuple[Int64s, Int64s, Int64s, Int64s]
Load = tuple[Four, Values, int]
"""What rows carry: values, the bits of those that are lacking (empty: none is), and how many columns."""


@compiled
def deliver(  # noqa: PLR0917 - compiled: no keywords
    begin: int, end: int, order: Int64s, young: Int64s, values: Int64s, out: Int64s
) -> None:
    """Bring one column of the questions [begin, end) to their asking rows, where there is an answer.

    Args:
        order: which asking row each question is.
        young: of the questions from `begin` on: negative where nothing answers.
        values: by question; `out`: by asking row.
    """
    for question in range(begin, end):
        if young[question - begin] >= 0:
            out[order[question]] = values[question]


@compiled
def tell_unmatched(begin: int, end: int, order: Int64s, young: Int64s, matched: Bools) -> None:
    """Tell the asking rows of the questions [begin, end) where there is no answer; see `deliver`."""
    for question in range(begin, end):
        if young[question - begin] < 0:
            matched[order[question]] = False

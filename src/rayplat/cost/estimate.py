"""What a run will cost before it starts, from what runs of the kind took before.

Knows how past runs become a range; it does not know where they are recorded. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rayplat.core.errors import UserError
from rayplat.cost.money import nano


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that has ended well: rows that it was given, how long it took, what it cost (nano-dollars)."""

    job: str
    rows: int
    seconds: float
    nano: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A run that has not started.

    Attributes:
        rows: that it will be given.
        rows_per_s: the median of past runs.
        seconds: how long it will take at that pace.
        node_price: nano-dollars an hour of one node of the group.
        low, likely, high: nano-dollars: nodes x time x price at the quickest, the median and the slowest
            pace that was seen; the nodes are paid whole, whoever else uses them.
        past_low, past_high: what past runs were charged a row, times these rows; None if the ledger has none.
        runs: how many past runs this is made of.
    """

    rows: int
    rows_per_s: float
    seconds: float
    nodes: int
    node_price: int
    low: int
    likely: int
    high: int
    past_low: int | None
    past_high: int | None
    runs: int


def estimate(
    past: Sequence[PastRun], rows: int, nodes: int, node_price: int, pace: float | None = None
) -> Estimate:
    """Foresee a run.

    Args:
        nodes: how many nodes it holds.
        node_price: of one, nano-dollars an hour.
        pace: rows a second, to be used instead of what past runs had.

    Raises:
        UserError: there is no past run, and no pace is given.
    """
    paces = sorted(run.rows / run.seconds for run in past if run.seconds > 0 and run.rows > 0)
    if pace is not None:
        paces = [pace]
    if not paces or paces[0] <= 0:
        raise UserError(
            "no run of this model has ended well yet, so nobody knows how long one takes",
            "give --rows-per-second, or run it once on a small part",
        )
    typical = median(paces)
    charged = sorted(run.nano / run.rows for run in past if run.nano and run.rows)

    def price(rows_per_s: float) -> int:
        return nano(nodes * rows / rows_per_s / 3600 * node_price / 10**9)

    return Estimate(
        rows=rows,
        rows_per_s=typical,
        seconds=rows / typical,
        nodes=nodes,
        node_price=node_price,
        low=price(paces[-1]),
        likely=price(typical),
        high=price(paces[0]),
        past_low=round(charged[0] * rows) if charged else None,
        past_high=round(charged[-1] * rows) if charged else None,
        runs=len(past),
    )

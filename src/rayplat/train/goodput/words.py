"""The largest loss of a run in words, and what would mend it.

Knows what each category is usually due to; it does not know the run.
"""

from rayplat.train.goodput.spending import Spending, Spent

WORTH_TELLING = 0.01
"""Smaller losses than this share are not explained."""

_WHY = {
    Spent.RESTART: (
        "restart-bound: {share} went by from a start or a loss to the next step",
        "keep a process ready with rp.Training(standbys=1), or train longer in one run",
    ),
    Spent.CHECKPOINT: (
        "checkpoint-bound: steps waited {share} of the time for checkpoints",
        "write fewer (rp.Keep(every_steps=…)), or to a faster disk",
    ),
    Spent.INPUT: (
        "input-bound: {share} waiting for rows",
        "raise cpus in rp.Training, or have rows prepared by other nodes (rp.Prepare) or by a feature view",
    ),
    Spent.IDLE: (
        "idle: {share} of the workers' time had no part in the group",
        "lower standbys, or lower the least number of workers so that the run begins with fewer",
    ),
    Spent.RECOMPUTE: (
        "recompute-bound: {share} went into steps that were lost and taken again",
        "write checkpoints more often (rp.Keep(every_steps=…)), or train with a peer: it keeps the state",
    ),
}


def explain(spending: Spending, usd: float | None = None) -> str:
    """One sentence about the largest loss, and what to do about it; that there is none worth a word."""
    losses = {spent: spending.ns.get(spent, 0) for spent in Spent if spent is not Spent.PRODUCTIVE}
    largest = max(losses, key=lambda spent: losses[spent])
    share = spending.share(largest)
    if share < WORTH_TELLING:
        return f"{spending.goodput:.1%} productive: no loss is over {WORTH_TELLING:.0%}"
    what, mend = _WHY[largest]
    money = "" if usd is None else f" ({share * usd:.2f} USD)"
    return f"{what.format(share=f'{share:.0%}')}{money}; {mend}"

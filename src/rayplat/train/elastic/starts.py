"""Whether a place is reserved anew because the process that was asked for in it does not come.

Knows deadlines and how often it is tried; it does not know reservations, Ray or a clock. Pure decisions.

A process can be lost before it is there: where the cluster's control store dies while it starts one, the node
may keep what it had set aside for it, and whatever is asked for in the same reservation waits for that. A
new reservation does not.
"""

from dataclasses import dataclass

from rayplat.train.elastic.facts import MemberFact, Phase
from rayplat.train.elastic.membership import Wait

START_S = 30.0
"""How long the first process of a place may take to come; the next one twice as long, and so on."""
START_TRIES = 3
"""How often a place is reserved anew before its process is waited for without a deadline."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Give the reservation up, and reserve the place anew."""

    reason: str


def decide_start(awaited: MemberFact, renewed: int, now: float, start_s: float = START_S) -> Renew | Wait:
    """What is to be done about a member whose process has not come yet.

    The deadline grows with each try, and after the last there is none: a machine on which processes take
    long to start, or an environment that is installed first, only loses the tries.

    Args:
        awaited: the member; its process has shown no sign of life.
        renewed: how often its place was reserved anew since a process last came in it.
        now: s on the clock of the member's `since`.
        start_s: the first deadline.
    """
    if awaited.phase is not Phase.STARTING or renewed >= START_TRIES:
        return Wait(1.0)
    deadline_s = start_s * 2**renewed
    left = awaited.since + deadline_s - now
    if left > 0:
        return Wait(left)
    then = ", for the last time" if renewed + 1 == START_TRIES else ""
    return Renew(
        f"the process of worker {awaited.id} has not come within {deadline_s:.0f} s: "
        f"its place is reserved anew ({renewed + 1} of {START_TRIES}{then})"
    )

"""When the last checkpoint before a deadline is taken: a pure decision over measured times.

Knows how long a step and a save take; it does not know a clock, nor who told the deadline.

A node that is to go is worth its price until it goes: so training goes on after the notice, and the
checkpoint is taken at the last step from which it will still be durable in time. One is taken at once, too: a
notice can be shorter than it says.
"""

from dataclasses import dataclass

_MARGIN = 2.0
_SPARE_S = 0.5


@dataclass(frozen=True, slots=True)
class Notice:
    """What is known when a step ends and the node is to go.

    Attributes:
        left_s: until the deadline.
        step_s: how long a step takes.
        durable_s: how long a save takes from its call until it is durable; 0 where none was measured yet.
        saved: whether one was taken since the notice.
        last: whether the last one was taken: nothing after it would be kept.
    """

    left_s: float
    step_s: float
    durable_s: float
    saved: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class SaveNow:
    """Take a checkpoint of this step."""

    last: bool


@dataclass(frozen=True, slots=True)
class TrainOn:
    """Take the next step."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Take no more steps: they would be lost."""


Choice = SaveNow | TrainOn | Stand


def decide_just_in_time(notice: Notice) -> Choice:
    """What to do at the end of a step.

    The last save begins while twice its measured time and half a second are left, and before a further step
    would eat into that; so at most the step in work is lost.
    """
    if notice.last:
        return Stand()
    needed = _MARGIN * notice.durable_s + _SPARE_S
    if notice.left_s - notice.step_s <= needed:
        return SaveNow(last=True)
    return TrainOn() if notice.saved else SaveNow(last=False)

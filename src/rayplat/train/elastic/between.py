"""Between two steps: what a member does when it is to save, to stand still or to leave its generation.

Knows the difference between a worker that has the whole state and one that has parts of it; it does not know
who asks (`link`), when a save is due (`notice`) or how one is made (`run`).

A worker with the whole state leaves at once: whoever goes on has it in memory. Of a sharded network nobody
has it whole: after each step all workers agree on what is to be done, save at the same one, and leave when it
is durable.
"""

from enum import IntEnum

from rayplat.train.checkpoints.agreeing import most_of_all
from rayplat.train.checkpoints.just_in_time import SaveNow, Stand
from rayplat.train.elastic.link import Link
from rayplat.train.elastic.notice import Departure
from rayplat.train.layout import is_sharded
from rayplat.train.leaving import LeaveError
from rayplat.train.run import TrainRun

_STAND_S = 0.2
"""A member that has taken its last checkpoint stands still, and looks so often whether it is to go on."""
_SAVE_WITHIN_S = 10.0
"""So long a group that is left waits for its parts to be durable; a member may be lost meanwhile."""


class Wish(IntEnum):
    """What a worker wants done now; the strongest one of all workers is done by all of them."""

    GO_ON = 0
    SAVE = 1
    STAND = 2
    SAVE_LAST = 3
    LEAVE = 4


def between_steps(run: TrainRun, link: Link, departure: Departure) -> None:
    """What is to be done before the next step.

    Raises:
        LeaveError: the generation is over.
    """
    if link.deadline is not None:
        departure.announce(link.deadline)
        link.deadline = None
    if is_sharded(run.network):
        _together(run, link, departure)
        return
    while not departure.step_ended(lambda: run.save(just_in_time=True)):
        link.say("saved", step=run.live.step)
        if link.regroup.wait(_STAND_S) or link.stop.is_set():
            break
    if link.regroup.is_set() or link.stop.is_set():
        raise LeaveError


def _together(run: TrainRun, link: Link, departure: Departure) -> None:
    while True:
        wish = Wish(most_of_all(_wish(link, departure)))
        if wish is Wish.LEAVE:
            _save_and_leave(run)
        if wish in (Wish.SAVE, Wish.SAVE_LAST):
            departure.take(lambda: run.save(just_in_time=True), last=wish is Wish.SAVE_LAST)
        if wish in (Wish.GO_ON, Wish.SAVE):
            return
        if departure.done:
            link.say("saved", step=run.live.step)
        link.regroup.wait(_STAND_S)


def _wish(link: Link, departure: Departure) -> Wish:
    if link.regroup.is_set() or link.stop.is_set():
        return Wish.LEAVE
    choice = departure.due()
    if isinstance(choice, SaveNow):
        return Wish.SAVE_LAST if choice.last else Wish.SAVE
    return Wish.STAND if isinstance(choice, Stand) else Wish.GO_ON


def _save_and_leave(run: TrainRun) -> None:
    """Make the state of this step durable, where it is not on its way already; then go.

    Raises:
        LeaveError: always. Where the save failed, the run goes on from the one before.
    """
    if run.saved_step == run.live.step:
        run.saves_ended(_SAVE_WITHIN_S)
    elif run.live.step:
        handle = run.save(just_in_time=True)
        if handle is not None:
            handle.ended_within(_SAVE_WITHIN_S)
    raise LeaveError

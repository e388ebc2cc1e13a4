"""A member whose node is to go: it trains on, and takes its last checkpoint before the deadline.

Knows the member's side of a notice, step by step; when a save is due is decided in `just_in_time`.
"""

import time
from collections.abc import Callable

from rayplat.core.errors import RayplatError
from rayplat.train.checkpoints.just_in_time import (
    Choice,
    Notice,
    SaveNow,
    Stand,
    TrainOn,
    decide_just_in_time,
)
from rayplat.train.checkpoints.writer import SaveHandle

_OVERDUE_S = 30.0


class Departure:
    """What a member knows of its node's end, and what it has saved since.

    Args:
        clock: seconds since the epoch: deadlines are told on this clock.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._deadline: float | None = None
        self._ended: float | None = None
        self._step_s = 0.0
        self._handle: SaveHandle | None = None
        self._last = False

    @property
    def done(self) -> bool:
        """Whether the last checkpoint before the deadline is durable."""
        return self._last

    def announce(self, deadline: float) -> None:
        """The node goes at `deadline`; 0 where nobody knows when."""
        self._deadline, self._handle, self._last = deadline, None, False

    def step_ended(self, save: Callable[[], SaveHandle | None]) -> bool:
        """Call it between two steps. Saves where it is time to; whether the next step may be taken.

        Args:
            save: takes a checkpoint of this moment, in the background.
        """
        choice = self.due()
        if isinstance(choice, SaveNow):
            self.take(save, last=choice.last)
        return not isinstance(choice, Stand) and not self._last

    def due(self) -> Choice:
        """A step has ended: what is due now. Where it is a save, `take` is to follow."""
        now = self._clock()
        if self._ended is not None:
            self._step_s = now - self._ended
        self._ended = now
        if self._deadline is None:
            return TrainOn()
        if self._deadline == 0 or now > self._deadline + _OVERDUE_S:  # who lives on after it, trains on
            self._deadline = None
            return SaveNow(last=False)
        return decide_just_in_time(
            Notice(
                left_s=self._deadline - now,
                step_s=self._step_s,
                durable_s=0.0 if self._handle is None else self._handle.durable_s or 0.0,
                saved=self._handle is not None,
                last=self._last,
            )
        )

    def take(self, save: Callable[[], SaveHandle | None], *, last: bool) -> None:
        """Save; the last one is waited for."""
        self._handle = save()
        self._last = last
        if last and self._handle is not None:
            try:
                self._handle.wait()
            except RayplatError:  # told by whoever wrote it; there may be time for another one
                self._last = False

"""A worker's own account of its time.

Knows what the worker does now and since when; it does not know of other workers (`accounts`).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rayplat.train.goodput.spending import Spending, Spent


class Stopwatch:
    """Every moment since it was made is of one category.

    The time of a step is held back until it is known whether the step counts. Used by one thread.

    Args:
        clock: whole nanoseconds, never going back.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns, doing: Spent = Spent.RESTART) -> None:
        self._clock = clock
        self._since = clock()
        self._doing = doing
        self._in_step = False
        self._step_ns = 0
        self._ns = dict.fromkeys(Spent, 0)

    @property
    def doing(self) -> Spent:
        """What it is doing."""
        return self._doing

    def enter(self, doing: Spent) -> None:
        """From now on the time is of this category; a step in work that was not ended is lost."""
        self._turn()
        if self._in_step:
            self._in_step = False
            self._ns[Spent.RECOMPUTE] += self._step_ns
            self._step_ns = 0
        self._doing = doing

    def begin_step(self) -> None:
        """A step begins."""
        self.enter(Spent.PRODUCTIVE)
        self._in_step = True

    def end_step(self, *, counts: bool) -> None:
        """The step is done; it counts, or it had been done before."""
        self._turn()
        self._in_step = False
        self._ns[Spent.PRODUCTIVE if counts else Spent.RECOMPUTE] += self._step_ns
        self._step_ns = 0

    @contextmanager
    def during(self, doing: Spent) -> Iterator[None]:
        """The body is of this category, also within a step; what follows is of the one before."""
        self._turn()
        before, in_step, self._doing, self._in_step = self._doing, self._in_step, doing, False
        try:
            yield
        finally:
            self._turn()
            self._doing, self._in_step = before, in_step

    def spent(self) -> Spending:
        """All the time so far. A step in work is told as lost: should the worker be lost, it is."""
        self._turn()
        ns = {**self._ns, Spent.RECOMPUTE: self._ns[Spent.RECOMPUTE] + self._step_ns}
        return Spending({spent: value for spent, value in ns.items() if value})

    def _turn(self) -> None:
        now = self._clock()
        if self._in_step:
            self._step_ns += now - self._since
        else:
            self._ns[self._doing] += now - self._since
        self._since = now

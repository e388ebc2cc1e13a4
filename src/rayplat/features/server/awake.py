"""Staying awake: an event loop that has just answered looks for the next request before it sleeps.

Knows when that is worth its while; it does not know what is asked.

To wake a process that sleeps takes as long as an answer does, so a loop whose last request came soon after
the answer before it does not sleep for as long again. It stands back where another process wants the
processor, and where requests are rare it sleeps at once.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

WINDOW_NS = 200_000
"""So long the next request is waited for without sleep."""

_PREEMPTED_NS = 50_000
_FIRST_REST_NS, _LONGEST_REST_NS = 10_000_000, 1_000_000_000


class Loop(Protocol):
    """An event loop."""

    def call_soon(self, callback: Callable[[], object]) -> object:
        """Call it in the loop's next turn, which looks for what has arrived and does not sleep."""


@dataclass(slots=True)
class Awake:
    """Keeps one event loop awake.

    Args:
        window_ns: see `WINDOW_NS`; 0: it sleeps at once.
        clock: nanoseconds.
    """

    window_ns: int = 0
    clock: Callable[[], int] = time.perf_counter_ns
    _loop: Loop | None = None
    _answered: int = 0
    _soon: bool = False
    _turning: bool = False
    # When the last turn was that nothing was done in; 0: something was done since.
    _turned: int = 0
    _rests_until: int = 0
    _rest: int = _FIRST_REST_NS

    def arrived(self) -> None:
        """A request has arrived."""
        if self.window_ns:
            self._soon = self.clock() - self._answered < self.window_ns
            self._turned = 0

    def answered(self, loop: Loop) -> None:
        """What had arrived is answered."""
        if not self.window_ns:
            return
        now = self._answered = self.clock()
        if self._soon and not self._turning and now >= self._rests_until:
            self._loop, self._turning, self._turned = loop, True, 0
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        now, before = self.clock(), self._turned
        if before and now - before > _PREEMPTED_NS:
            # Between two turns in which nothing was done somebody else had the processor.
            self._rests_until, self._rest = now + self._rest, min(2 * self._rest, _LONGEST_REST_NS)
            self._turning = False
        elif now - self._answered < self.window_ns and self._loop is not None:
            self._turned = now
            self._loop.call_soon(self._turn)
        else:
            self._turning = self._soon = False


def window_ns(workers: int) -> int:
    """The window of each of some processes that answer: none if they leave no processor to others."""
    return WINDOW_NS if _processors() > workers else 0


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # another system than Linux
        return os.cpu_count() or 1

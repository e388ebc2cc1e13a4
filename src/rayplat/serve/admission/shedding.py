"""Load shedding: refuse early what could not be answered in time, the least important first.

Knows how long requests waited and how many came of each importance; it does not know requests. Pure: the
clock is an argument, and what is admitted follows from the numbers alone.

Overload is seen as CoDel sees it: the shortest wait within an interval is over the target, so the queue
stands and does not only swing (Nichols and Jacobson, Controlling Queue Delay, ACM Queue 10(5), 2012). As with
CoDel, what is no queue is never cut: a wait counts only where many were let in while it lasted, for those
stood in line with it. Few callers who ask one after the other are few, however slow the replica is and
however long it has stood still. How much is let in then follows DAGOR: an interval with overload lets in a
part less than the replica can do (as much as was let in, over the time and the growth of the wait that it
took), one without lets in a little more than before, and the border is put where the counts of the last
interval say that this many come (Zhou et al., Overload Control for Scaling WeChat Microservices, SoCC 2018,
section 4.2).
"""

from collections import deque
from dataclasses import dataclass, field

from rayplat.serve.admission.decision import Priority

_STEPS = 64
_RANKS = _STEPS * len(Priority)
_LESS, _MORE, _SHRINKS = 0.8, 1.05, 0.5
_NO_QUEUE = 8  # so many that wait at a time are answered by the next batch


@dataclass(frozen=True, slots=True)
class Shed:
    """Whether a request is refused, and after how many seconds asking again may help."""

    refused: bool
    retry_after_s: float = 0.0


@dataclass(slots=True)
class Shedder:
    """The state of one replica.

    Attributes:
        target_s: a wait that is never too long.
        interval_s: how long is looked before the border moves.
    """

    target_s: float = 0.02
    interval_s: float = 0.1
    border: int = 0
    _begun: float | None = None
    _shortest: float | None = None
    _came: list[int] = field(default_factory=lambda: [0] * _RANKS)
    _let_in: int = 0
    _latest: deque[float] = field(default_factory=lambda: deque(maxlen=_NO_QUEUE + 1))
    _last: float = 0.0
    _before: float = 0.0
    _overloaded_for: int = 0

    def decide(self, priority: Priority, spread: int, now: float) -> Shed:
        """Whether a request is let in.

        Args:
            spread: any number that differs between requests of one priority, such as a count or a hash of
                the caller (then some callers are answered well instead of all badly).
        """
        self._turn(now)
        rank = priority * _STEPS + spread % _STEPS
        self._came[rank] += 1
        if rank < self.border:
            return Shed(True, max(1.0, self._overloaded_for * self.interval_s))
        self._let_in += 1
        self._latest.append(now)
        return Shed(False)

    def waited(self, seconds: float, now: float) -> None:
        """Tell how long a request has waited before its work began."""
        self._turn(now)
        self._last = seconds
        # The requests and the waits of one interval are not each other's: after a stall a long wait is told
        # when all who waited ask again. So those in line are counted over the wait itself.
        many = len(self._latest) > _NO_QUEUE and now - self._latest[0] < seconds
        stood = seconds if many else 0.0
        if self._shortest is None or stood < self._shortest:
            self._shortest = stood

    def _turn(self, now: float) -> None:
        if self._begun is None:
            self._begun = now
        if now - self._begun < self.interval_s:
            return
        if self._shortest is not None and self._shortest > self.target_s:
            self._overloaded_for += 1
            # What was let in took the interval and what the wait has grown by: so many go into an interval.
            took = max(self.interval_s + self._last - self._before, self.interval_s * _SHRINKS)
            self._move(self._let_in * self.interval_s / took * _LESS)
        else:
            self._overloaded_for = 0
            self._move(self._let_in * _MORE + 1)
        self._begun, self._shortest, self._let_in = now, None, 0
        self._before = self._last
        self._came = [0] * _RANKS

    def _move(self, wanted: float) -> None:
        """Put the border where about `wanted` requests of an interval like the last one are over it."""
        total, border = 0, _RANKS
        while border > 0 and total + self._came[border - 1] <= wanted:
            border -= 1
            total += self._came[border]
        # Ranks of which none came say nothing; the border does not jump over them downwards for nothing.
        self.border = min(border, _RANKS - 1)

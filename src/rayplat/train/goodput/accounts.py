"""The accounts of a run: the time of every worker from its start to its end, whatever it told of it.

Knows that each worker's categories add up to its life; it does not know a clock, or how workers are told of.
A worker that was killed has not told its last moments: they are put where they belong by what it did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rayplat.train.goodput.spending import Spending, Spent


@dataclass(slots=True)
class _Life:
    began: int
    told: Spending = field(default_factory=Spending)


class Accounts:
    """Times are whole nanoseconds on the caller's clock.

    Args:
        before: what earlier calls of the same run had spent.
    """

    def __init__(self, before: Spending | None = None) -> None:
        self._closed = before or Spending()
        self._open: dict[str, _Life] = {}

    def began(self, worker: str, at: int) -> None:
        """A worker's process was asked for."""
        self._open[worker] = _Life(at)

    def told(self, worker: str, spent: Spending) -> None:
        """What a worker says it has spent so far, all in all. One that has ended says nothing any more."""
        life = self._open.get(worker)
        if life is not None:
            life.told = spent

    def ended(self, worker: str, at: int, rest: Spent) -> None:
        """A worker has ended; what it did not tell of was spent on `rest`. A second end means nothing."""
        life = self._open.pop(worker, None)
        if life is not None:
            self._closed += _whole(life, at, rest)

    def spent(self, now: int, rest: Mapping[str, Spent] | None = None) -> Spending:
        """All until now. What living workers have not told yet is of `rest`, or of a restart."""
        total = self._closed
        for worker, life in self._open.items():
            total += _whole(life, now, (rest or {}).get(worker, Spent.RESTART))
        return total

    @property
    def workers(self) -> int:
        """How many have begun and not ended."""
        return len(self._open)


def _whole(life: _Life, at: int, rest: Spent) -> Spending:
    """A life's time by category, adding up to it exactly.

    A worker's clock may run faster than the caller's, by some millionths: the largest category gives that.
    """
    missing = (at - life.began) - life.told.total_ns
    if missing >= 0:
        return life.told + Spending({rest: missing} if missing else {})
    ns = dict(life.told.ns)
    while missing < 0:
        largest = max(ns, key=lambda spent: ns[spent])
        given = min(ns[largest], -missing)
        if not given:
            break
        ns[largest] -= given
        missing += given
    return Spending({spent: value for spent, value in ns.items() if value})

"""A study carried out: ask, run, tell and stop, each round made durable before the next begins.

Knows the order in which that happens and how a killed study goes on; it does not know how values are
chosen (`search`), what may be spent (`caps`), who is stopped (`stopping`) or where trials run (`pool`).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rayplat.core.errors import RayplatError
from rayplat.tuning.caps import Caps, Room, Spent, room
from rayplat.tuning.journal import COMPLETE, FAILED, RUNNING, STOPPED, Journal, KeptStudy
from rayplat.tuning.pareto import minimised
from rayplat.tuning.pool import LOST, Pool, Reported
from rayplat.tuning.search import Search
from rayplat.tuning.states import KeptStates
from rayplat.tuning.stopping import Stopper
from rayplat.tuning.trial import Ended, Report, Start

_TICK_S = 0.5
_FAILED_IN_A_ROW = 10
_LOST_AT_MOST = 2

Noted = Callable[[str, float | None], None]


class StudyFailedError(RayplatError):
    """One trial after another failed: the tried function is at fault."""


def _unheard(text: str, share: float | None) -> None:
    """Nobody follows the study."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why a sitting ended, and what it did.

    Attributes:
        why: the cap that was reached, or that every combination was tried.
        again: trials of an earlier sitting that had not ended and were run again.
        ran: trials that ended in this sitting; one that was stopped and went on counts each time.
    """

    why: str
    again: int
    ran: int
    spent: Spent


@dataclass(slots=True)
class _Round:
    """What is made durable at once: what has been heard, and what starts after it."""

    ended: list[Ended] = field(default_factory=list)
    reports: list[tuple[int, Report]] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    begun: dict[int, Mapping[str, Any]] = field(default_factory=dict)


class Sitting:
    """One driver over a study, from where the one before it was killed.

    Args:
        dollars_per_second: what all workers of the pool cost together, now.
        clock: seconds that only go up.
        search: makes the search, given how many trials there are already.
        warm: learn from what earlier studies of the same model found.
        states: where trials keep what they need to go on.
    """

    def __init__(
        self,
        journal: Journal,
        search: Callable[[int], Search],
        pool: Pool,
        caps: Caps,
        *,
        stopper: Stopper | None = None,
        dollars_per_second: float | Callable[[], float] = 0.0,
        clock: Callable[[], float] = time.monotonic,
        warm: bool = False,
        noted: Noted = _unheard,
        states: KeptStates | None = None,
    ) -> None:
        self._journal, self._pool, self._caps, self._stopper = journal, pool, caps, stopper
        self._price, self._clock, self._noted = dollars_per_second, clock, noted
        self._states = states or KeptStates()
        self._signs = tuple(-1.0 if o.higher_is_better else 1.0 for o in journal.objectives)
        self._last = clock()
        kept = journal.open()
        self._spent = kept.spent
        self._next = max((t.number for t in kept.trials), default=-1) + 1
        self._search = search(self._next)
        self._params: dict[int, Mapping[str, Any]] = {}
        self._reports: dict[int, dict[int, float]] = {}
        self._again: list[int] = []
        self._running: set[int] = set()
        self._lost: dict[int, int] = {}
        self._exhausted = False
        self._failed, self._error = 0, ""
        if warm:
            self._learn_from_earlier()
        self._take_up(kept)

    def _learn_from_earlier(self) -> None:
        number = -1
        for study in self._journal.earlier():
            if study.objectives != self._journal.objectives:
                continue
            for trial in study.trials:
                if trial.state in {COMPLETE, STOPPED}:
                    self._tell(number, trial.state, trial.params, trial.values, dict(trial.reports))
                    number -= 1

    def _take_up(self, kept: KeptStudy) -> None:
        """Go on from a record: ended trials are told, the others run again under their old numbers."""
        for trial in kept.trials:
            reports = dict(trial.reports)
            if trial.state in {RUNNING, STOPPED}:
                self._params[trial.number], self._reports[trial.number] = trial.params, reports
            if self._stopper is not None:
                signed = {step: self._signs[0] * value for step, value in reports.items()}
                self._stopper.learn(trial.number, signed, trial.state)
            if trial.state == RUNNING:
                self._again.append(trial.number)
            else:
                self._tell(trial.number, trial.state, trial.params, trial.values, reports)

    def _tell(
        self,
        number: int,
        state: str,
        params: Mapping[str, Any],
        values: Sequence[float],
        reports: Mapping[int, float],
    ) -> None:
        """Tell the search what became of a trial: its values, its reports alone, or that it failed."""
        if state == STOPPED and len(self._signs) == 1:
            self._search.tell_stopped(number, params, {s: self._signs[0] * v for s, v in reports.items()})
            return
        whole = len(values) == len(self._signs) and all(math.isfinite(v) for v in values)
        known = minimised(values, self._journal.objectives) if state == COMPLETE and whole else None
        self._search.tell(number, params, known)

    def run(self) -> Outcome:
        """Run trials until a cap is reached or all were tried.

        Raises:
            ConflictError: another driver has taken the study over.
            StudyFailedError: trials fail one after another.
        """
        again, ran, why = len(self._again), 0, ""
        heard = _Round()
        try:
            while True:
                self._charge()
                starts, over = self._choose(heard)
                self._journal.commit(
                    self._spent,
                    started=heard.begun,
                    reports=heard.reports,
                    ended=heard.ended,
                    resumed=heard.resumed,
                )
                self._stop_where_all_fail()
                why = over.why or ("every combination was tried" if self._exhausted else "")
                if over.over:
                    break
                for number in starts:
                    self._begin(number)
                if not self._running:
                    break
                heard = self._listen()
                ran += len(heard.ended)
        finally:
            self._pool.close()
        return Outcome(why, again, ran, self._spent)

    def _charge(self) -> None:
        """The time since the last round, at the price that holds now."""
        now = self._clock()
        price = self._price() if callable(self._price) else self._price
        self._spent = self._spent.charged(now - self._last, price)
        self._last = now

    def _choose(self, heard: _Round) -> tuple[list[int], Room]:
        """The trials that start now, and what the caps say.

        First those that were interrupted, then stopped ones that go on, then new ones.
        """
        free = self._pool.slots - len(self._running)
        allowed = room(self._caps, self._spent, free)
        if allowed.over:
            return [], allowed
        starts, self._again = self._again[:free], self._again[free:]
        while len(starts) < free and (number := self._stopped_that_goes_on(last=False)) is not None:
            heard.resumed.append(number)
            starts.append(number)
        self._exhausted = False
        for _ in range(min(allowed.trials, free - len(starts))):
            params = self._search.ask(self._next)
            if params is None:
                self._exhausted = True
                break
            heard.begun[self._next] = self._params[self._next] = params
            starts.append(self._next)
            self._next += 1
        if not starts and not self._running:
            number = self._stopped_that_goes_on(last=True)
            if number is not None:
                heard.resumed.append(number)
                starts.append(number)
        self._spent = replace(self._spent, trials=self._spent.trials + len(heard.begun))
        return starts, allowed

    def _stopped_that_goes_on(self, *, last: bool) -> int | None:
        return None if self._stopper is None else self._stopper.again(last=last)

    def _begin(self, number: int) -> None:
        self._running.add(number)
        origin = None if self._stopper is None else self._stopper.origin(number)
        states = self._states
        self._pool.start(Start(number, dict(self._params[number]), states.of(number), states.of(origin)))

    def _listen(self) -> _Round:
        heard = _Round()
        for told in self._pool.heard(_TICK_S):
            if isinstance(told, Reported):
                heard.reports.append((told.number, told.report))
                self._pool.answer(told.number, goes_on=self._goes_on(told.number, told.report))
                continue
            self._running.remove(told.number)
            if told.state == LOST and self._lost.get(told.number, 0) < _LOST_AT_MOST:
                self._lost[told.number] = self._lost.get(told.number, 0) + 1
                self._again.append(told.number)
                continue
            one = self._checked(told)
            for report in one.reports:
                heard.reports.append((one.number, report))
                self._goes_on(one.number, report)
            heard.ended.append(one)
            self._end(one)
        if heard.ended:
            share = None if not self._caps.trials else self._spent.trials / self._caps.trials
            self._noted(f"trial {heard.ended[-1].number}: {heard.ended[-1].state}", share)
        return heard

    def _goes_on(self, number: int, report: Report) -> bool:
        step, value = report
        self._reports.setdefault(number, {})[step] = value
        return self._stopper is None or self._stopper.goes_on(number, step, self._signs[0] * value)

    def _end(self, one: Ended) -> None:
        if self._stopper is not None:
            self._stopper.ended(one.number, one.state)
        params, reports = self._params[one.number], self._reports.get(one.number, {})
        self._tell(one.number, one.state, params, one.values, reports)
        if one.state != STOPPED:  # a stopped one may go on
            del self._params[one.number]
            self._reports.pop(one.number, None)
        self._failed = self._failed + 1 if one.state == FAILED else 0
        self._error = one.error

    def _checked(self, ended: Ended) -> Ended:
        if ended.state == LOST:
            return replace(ended, state=FAILED)
        if ended.state == COMPLETE and len(ended.values) != len(self._signs):
            text = f"{len(ended.values)} values came back for {len(self._signs)} objectives"
            return replace(ended, state=FAILED, values=(), error=text)
        return ended

    def _stop_where_all_fail(self) -> None:
        if self._failed >= _FAILED_IN_A_ROW:
            raise StudyFailedError(
                f"{self._failed} trials failed one after another, the last by {self._error}",
                "correct the function, or narrow the space",
            )

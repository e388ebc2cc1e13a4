"""A study carried out: ask, run, tell and stop, each round made durable before the next begins.

Knows the order in which that happens and how a killed study goes on; it does not know how values are
chosen (`search`), what may be spent (`caps`) or where trials run (`pool`).
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rayplat.core.errors import RayplatError
from rayplat.tuning.caps import Caps, Spent, room
from rayplat.tuning.journal import COMPLETE, FAILED, RUNNING, STOPPED, Journal, KeptStudy
from rayplat.tuning.pareto import minimised
from rayplat.tuning.pool import Pool, Reported
from rayplat.tuning.search import Search
from rayplat.tuning.stopping import Stopper
from rayplat.tuning.trial import Ended, Report

_TICK_S = 0.5
_FAILED_IN_A_ROW = 10

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
        ran: trials that ended in this sitting.
    """

    why: str
    again: int
    ran: int
    spent: Spent


class Sitting:
    """One driver over a study, from where the one before it was killed.

    Args:
        dollars_per_second: what all workers of the pool cost together.
        clock: seconds that only go up.
        search: makes the search, given how many trials there are already.
        warm: learn from what earlier studies of the same model found.
    """

    def __init__(
        self,
        journal: Journal,
        search: Callable[[int], Search],
        pool: Pool,
        caps: Caps,
        *,
        stopper: Stopper | None = None,
        dollars_per_second: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        warm: bool = False,
        noted: Noted = _unheard,
    ) -> None:
        self._journal, self._pool, self._caps, self._stopper = journal, pool, caps, stopper
        self._price, self._clock, self._noted = dollars_per_second, clock, noted
        self._signs = tuple(-1.0 if o.higher_is_better else 1.0 for o in journal.objectives)
        self._last = clock()
        kept = journal.open()
        self._spent = kept.spent
        self._next = max((t.number for t in kept.trials), default=-1) + 1
        self._search = search(self._next)
        self._params: dict[int, Mapping[str, Any]] = {}
        self._reports: dict[int, dict[int, float]] = {}
        self._again: list[tuple[int, Mapping[str, Any]]] = []
        self._running: set[int] = set()
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
            if trial.state == RUNNING:
                self._again.append((trial.number, trial.params))
                continue
            if self._stopper is not None:
                for step, value in trial.reports:
                    self._stopper.goes_on(trial.number, step, self._signs[0] * value)
            self._tell(trial.number, trial.state, trial.params, trial.values, dict(trial.reports))

    def _tell(
        self,
        number: int,
        state: str,
        params: Mapping[str, Any],
        values: tuple[float, ...],
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
        ended: list[Ended] = []
        reports: list[tuple[int, Report]] = []
        try:
            while True:
                now = self._clock()
                self._spent = self._spent.charged(now - self._last, self._price)
                self._last = now
                repeated, begun, over = self._choose()
                self._journal.commit(self._spent, started=begun, reports=reports, ended=ended)
                self._stop_where_all_fail()
                why = over.why or ("every combination was tried" if self._exhausted else "")
                if over.over:
                    break
                for number, params in {**repeated, **begun}.items():
                    self._begin(number, params)
                if not self._running:
                    break
                ended, reports = self._listen()
                ran += len(ended)
        finally:
            self._pool.close()
        return Outcome(why, again, ran, self._spent)

    def _choose(self) -> tuple[dict[int, Mapping[str, Any]], dict[int, Mapping[str, Any]], Any]:
        """The trials of an earlier sitting that start now, the new ones, and what the caps say."""
        free = self._pool.slots - len(self._running)
        allowed = room(self._caps, self._spent, max(free - len(self._again), 0))
        repeated: dict[int, Mapping[str, Any]] = {}
        while self._again and len(repeated) < free and not allowed.over:
            number, params = self._again.pop(0)
            repeated[number] = params
        begun: dict[int, Mapping[str, Any]] = {}
        for _ in range(0 if self._exhausted else allowed.trials):
            params_asked = self._search.ask(self._next)
            if params_asked is None:
                self._exhausted = True
                break
            begun[self._next] = params_asked
            self._next += 1
        self._spent = replace(self._spent, trials=self._spent.trials + len(begun))
        return repeated, begun, allowed

    def _begin(self, number: int, params: Mapping[str, Any]) -> None:
        self._params[number] = params
        self._running.add(number)
        self._pool.start(number, params)

    def _listen(self) -> tuple[list[Ended], list[tuple[int, Report]]]:
        ended: list[Ended] = []
        reports: list[tuple[int, Report]] = []
        for told in self._pool.heard(_TICK_S):
            if isinstance(told, Reported):
                reports.append((told.number, told.report))
                step, value = told.report
                self._reports.setdefault(told.number, {})[step] = value
                goes_on = self._stopper is None or self._stopper.goes_on(
                    told.number, step, self._signs[0] * value
                )
                self._pool.answer(told.number, goes_on=goes_on)
            else:
                one = self._checked(told)
                reports += [(one.number, report) for report in one.reports]
                ended.append(one)
                self._running.remove(one.number)
                heard = self._reports.pop(one.number, {}) | dict(one.reports)
                self._tell(one.number, one.state, self._params.pop(one.number), one.values, heard)
                self._count_failures(one)
        if ended:
            share = None if not self._caps.trials else self._spent.trials / self._caps.trials
            self._noted(f"trial {ended[-1].number}: {ended[-1].state}", share)
        return ended, reports

    def _checked(self, ended: Ended) -> Ended:
        if ended.state not in {COMPLETE, STOPPED}:
            return ended
        if ended.state == COMPLETE and len(ended.values) != len(self._signs):
            text = f"{len(ended.values)} values came back for {len(self._signs)} objectives"
            return replace(ended, state=FAILED, values=(), error=text)
        return ended

    def _count_failures(self, ended: Ended) -> None:
        self._failed = self._failed + 1 if ended.state == FAILED else 0
        self._error = ended.error

    def _stop_where_all_fail(self) -> None:
        if self._failed >= _FAILED_IN_A_ROW:
            raise StudyFailedError(
                f"{self._failed} trials failed one after another, the last by {self._error}",
                "correct the function, or narrow the space",
            )

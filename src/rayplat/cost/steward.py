"""The steward of costs: settles the ledger, and carries out what the budgets decide.

Knows the order (settle, warn, refuse, ask to stop, stop after the grace period) and how to be one process
that runs beside a platform; the policy is in `budget`. What it does is durable before it is told, and
a steward that was killed goes on where it was.
"""

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rayplat.cluster.stop_requests import StopRequest, StopRequests
from rayplat.core.errors import RayplatError
from rayplat.core.events import BudgetRefused, BudgetStopped, BudgetWarned, EventBus
from rayplat.core.settings import Settings
from rayplat.core.telemetry import get_logger
from rayplat.cost.accounts import Accounts, Sources, sources_of
from rayplat.cost.budget import Level, Standing, StopWork, Work, decide
from rayplat.cost.ledger import RECHECK, Settlement, now_utc
from rayplat.cost.levels import Levels
from rayplat.cost.money import dollars
from rayplat.cost.stopping import Stopper, cluster_stopper

NAME = "cost-steward"


@dataclass(frozen=True, slots=True)
class Round:
    """What one look did."""

    settled: Settlement
    standings: tuple[Standing, ...]
    asked: tuple[Work, ...]
    forced: tuple[Work, ...]


class Steward:
    """Looks after the costs of one platform; `round` is one look.

    Args:
        bus: hears BudgetWarned, BudgetRefused, BudgetStopped, each once a budget's time.
        stop: stops work from outside; called only after the grace period.
        sources: reads facts, jobs and the cluster file anew for each look.
    """

    def __init__(
        self,
        settings: Settings,
        bus: EventBus,
        stop: Stopper,
        sources: Callable[[], Sources],
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._stop = stop
        self._sources = sources
        self._levels = Levels(settings)
        self._requests = StopRequests(settings)

    def close(self) -> None:
        """Give the connections back."""
        self._levels.close()
        self._requests.close()

    def round(self, now: datetime) -> Round:
        """Settle, then see to every budget, then to everything that was asked to stop.

        Raises:
            UnknownPriceError: a node's group has no price.
        """
        with Accounts(self._settings, self._sources()) as accounts:
            settled = accounts.settle(now)
            if settled.booked or settled.corrections:
                self._tell_jobs(accounts, now)
            works = accounts.works(now)
            standings = accounts.standings(now)
            asked = [work for s in standings for work in self._see_to(s, works, now)]
            forced = self._follow_up(accounts, works, now)
            return Round(settled, tuple(standings), tuple(asked), tuple(forced))

    def _see_to(self, standing: Standing, works: list[Work], now: datetime) -> list[Work]:
        """Take the steps of a budget in their order; the door refuses by what it counts itself."""
        before = self._levels.set(standing.key, standing.level, now)
        if before < Level.WARN <= standing.level:
            self._bus.emit(BudgetWarned(at=now, **_told(standing)))
        if before < Level.REFUSE <= standing.level:
            self._bus.emit(BudgetRefused(at=now, **_told(standing)))
        decision = decide(standing, works)
        if not isinstance(decision, StopWork):
            return []
        reason = str(standing)
        asked = [w for w in decision.targets if self._requests.ask(w.kind, w.owner, reason, now)]
        if before < Level.STOP or asked:
            stopped = tuple(f"{w.kind} {w.owner}" for w in asked)
            self._bus.emit(BudgetStopped(at=now, **_told(standing), stopped=stopped))
        return asked

    def _follow_up(self, accounts: Accounts, works: list[Work], now: datetime) -> list[Work]:
        there = {(w.kind, w.owner): w for w in works}
        forced = []
        for request in self._requests.open():
            work = there.get((request.owner_kind, request.owner))
            if work is None:
                self._requests.honour(request.owner_kind, request.owner, now)
            elif self._out_of_time(request, now):
                self._stop(work, accounts.job_of(work, now))
                self._requests.force(request.owner_kind, request.owner, now)
                forced.append(work)
        return forced

    def _out_of_time(self, request: StopRequest, now: datetime) -> bool:
        return now - request.at >= timedelta(seconds=self._settings.cost.grace_s)

    def _tell_jobs(self, accounts: Accounts, now: datetime) -> None:
        """Write what jobs have cost into their history: of those that run, or ended a while ago."""
        jobs = accounts.sources.jobs.jobs()
        open_ = [j for j in jobs if j.ended_at is None or now - j.ended_at < 2 * RECHECK]
        if not open_:
            return
        costs = accounts.job_costs(accounts.charges(min(j.submitted_at for j in open_), now))
        for job in open_:
            cost = dollars(costs.get(job.submission_id, 0))
            if cost and cost != job.cost:
                accounts.sources.jobs.set_cost(job.submission_id, cost)


def _told(standing: Standing) -> dict[str, Any]:
    return {
        "scope": standing.scope,
        "name": standing.name,
        "spent_usd": str(dollars(standing.spent)),
        "limit_usd": str(dollars(standing.limit)),
    }


def watch(settings: Settings, bus: EventBus, ended: threading.Event) -> None:
    """Look every `cost.interval_s` until `ended` is set; what goes wrong is logged once and tried again."""
    log = get_logger("cost.steward")
    last = ""
    steward = Steward(settings, bus, cluster_stopper(settings), lambda: sources_of(settings))
    with closing(steward):
        while not ended.is_set():
            trouble = ""
            try:
                steward.round(now_utc())
            except RayplatError as error:
                trouble = str(error)
                if trouble != last:
                    log.error("the costs were not settled", error=trouble)
            last = trouble
            ended.wait(settings.cost.interval_s)


def start(settings: Settings) -> None:
    """Start the steward of a platform in the background, unless it runs; `rayplat down` ends it.

    Raises:
        UnavailableError: the process could not be started.
    """
    import sys

    from rayplat.cluster.processes import running, start_process
    from rayplat.core.settings_environment import as_environment

    if running(settings, NAME) is None:
        argv = [sys.executable, "-m", "rayplat.cli", "cost", "watch"]
        start_process(settings, NAME, argv, as_environment(settings))

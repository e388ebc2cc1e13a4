"""Budgets: what was spent against what may be, and what follows: warn, refuse, stop, in this order.

Knows the policy; it does not know how money is counted, nor how work is refused or stopped. Pure: the
clock and the facts are arguments, decisions are values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING

from rayplat.cost.money import nano, shown

if TYPE_CHECKING:
    from rayplat.cluster.spec.money import BudgetSpec

EACH = "*"
RUNS = ("job", "run")


class Level(IntEnum):
    """How far a budget is spent; a higher level includes what the lower ones ask for."""

    WITHIN = 0
    WARN = 1
    REFUSE = 2
    STOP = 3


@dataclass(frozen=True, slots=True)
class Spent:
    """One amount and what it was spent on, as the policy sees it."""

    at: datetime
    kind: str
    owner: str
    team: str
    project: str
    nano: int


@dataclass(frozen=True, slots=True, order=True)
class Work:
    """Something that runs or waits to run."""

    kind: str
    owner: str
    team: str = ""
    project: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """One budget as it stands, for one team, project or run.

    Attributes:
        since: the beginning of the time that it is for; None for all time.
    """

    scope: str
    name: str
    per: str
    since: datetime | None
    spent: int
    limit: int
    level: Level
    may_stop_endpoints: bool

    @property
    def key(self) -> str:
        """What tells this standing from others, and from the same budget's former time."""
        return f"{self.scope}/{self.name}/{self.per}/{self.since.isoformat() if self.since else ''}"

    def __str__(self) -> str:
        part = 100 * self.spent // self.limit if self.limit else 100
        per = "" if self.per in ("total", "run") else f" a {self.per}"
        return (
            f"{self.scope} {self.name} has spent {shown(self.spent)} ({part} %) of {shown(self.limit)}{per}"
        )


@dataclass(frozen=True, slots=True)
class Continue:
    """Nothing has to be done."""


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell that the budget comes to its end."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class RefuseNew:
    """Let no new work in; what runs goes on."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class StopWork:
    """Let no new work in, and ask these to write a checkpoint and end."""

    standing: Standing
    targets: tuple[Work, ...]


Decision = Continue | Warn | RefuseNew | StopWork


def window(per: str, now: datetime) -> datetime | None:
    """The beginning of the time that a budget is for (UTC); None for all time."""
    if per == "day":
        return now.replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "month":
        return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return None


def standings(
    budgets: Iterable["BudgetSpec"], spent: Sequence[Spent], names: Iterable[Work], now: datetime
) -> list[Standing]:
    """Every budget as it stands; one for each of them that `*` matches in what was spent or runs.

    Args:
        spent: all that counts for any budget; what is older than a budget's time is left out.
        names: work that runs or asks to be let in: its budgets stand at nothing spent.
    """
    works = [*names, *(Work(s.kind, s.owner, s.team, s.project) for s in spent)]
    found: dict[str, Standing] = {}
    for budget in budgets:
        since = window(budget.per, now)
        sums: dict[str, int] = {}
        for one in spent:
            name = name_in(budget.scope, Work(one.kind, one.owner, one.team, one.project))
            if name and (since is None or one.at >= since):
                sums[name] = sums.get(name, 0) + one.nano
        every = {name for work in works if (name := name_in(budget.scope, work))}
        for name in sorted(every) if budget.name == EACH else [budget.name]:
            standing = _standing(budget, name, since, sums.get(name, 0))
            # The stricter of two budgets for the same thing counts.
            before = found.get(standing.key)
            if before is None or standing.limit < before.limit:
                found[standing.key] = standing
    return sorted(found.values(), key=lambda s: s.key)


def _standing(budget: "BudgetSpec", name: str, since: datetime | None, spent: int) -> Standing:
    limit = nano(budget.limit_usd)
    level = Level.WITHIN
    for reached, part in (
        (Level.WARN, budget.warn_at),
        (Level.REFUSE, budget.refuse_at),
        (Level.STOP, budget.stop_at),
    ):
        if spent >= nano(budget.limit_usd * part):
            level = reached
    return Standing(budget.scope, name, budget.per, since, spent, limit, level, budget.may_stop_endpoints)


def name_in(scope: str, work: Work) -> str:
    """What a budget of a scope calls this work; empty where it does not count it."""
    if scope == "team":
        return work.team
    if scope == "project":
        return work.project
    return work.owner if work.kind in RUNS else ""


def matches(standing: Standing, work: Work) -> bool:
    """Whether work is paid by this budget."""
    return name_in(standing.scope, work) == standing.name


def decide(standing: Standing, running: Iterable[Work]) -> Decision:
    """What follows from how a budget stands.

    Args:
        running: everything that runs, or waits to; only what the budget pays is ever stopped, and an
            endpoint only where the budget says so.
    """
    if standing.level is Level.WITHIN:
        return Continue()
    if standing.level is Level.WARN:
        return Warn(standing)
    if standing.level is Level.REFUSE:
        return RefuseNew(standing)
    targets = tuple(sorted({w for w in running if matches(standing, w) and _may_stop(standing, w)}))
    return StopWork(standing, targets)


def _may_stop(standing: Standing, work: Work) -> bool:
    if work.kind == "endpoint":
        return standing.may_stop_endpoints
    return work.kind in ("job", "run", "ingest")


def worst(standings_: Iterable[Standing], work: Work) -> Standing | None:
    """The budget of this work that is spent the furthest; None where none is past its warning."""
    reached = [s for s in standings_ if s.level > Level.WITHIN and matches(s, work)]
    return max(reached, key=lambda s: (s.level, s.spent * 10**6 // max(s.limit, 1)), default=None)

"""The accounts of one platform: cluster file, prices, facts, jobs and ledger, brought together.

Knows which part answers which question; it does not split, decide or stop anything itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from rayplat.cluster.jobs.record import JobRecord
from rayplat.cluster.spec import ClusterSpec, load_spec
from rayplat.core.settings import Settings
from rayplat.cost.budget import Spent, Standing, Work, standings, window
from rayplat.cost.ledger import Charge, Ledger, Settlement
from rayplat.cost.prices import PriceBook, book_of
from rayplat.cost.usage import FactSource, JobsOf, JobSource, Ownership, running

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_LOOK_BACK = timedelta(minutes=10)
_WORKING = ("job", "run", "endpoint", "ingest")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where facts, jobs and the cluster file come from."""

    facts: FactSource
    jobs: JobSource
    spec: ClusterSpec


def sources_of(settings: Settings) -> Sources:
    """The sources of a platform.

    Raises:
        UserError: the cluster file says what it may not.
    """
    from rayplat.cost.facts import FactsOf

    return Sources(FactsOf(settings), JobsOf(settings), load_spec(Path(settings.ray.spec)))


class Accounts:
    """What was spent, and what runs. Close it, or use it in a `with`.

    Args:
        settings: `database` holds the ledger.
        sources: those of the settings if None.
    """

    def __init__(self, settings: Settings, sources: Sources | None = None) -> None:
        self.settings = settings
        self.sources = sources or sources_of(settings)
        self.ledger = Ledger(settings, self.sources.facts, self.sources.jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self.ledger.close()

    def prices(self, now: datetime, *, keep: bool = False) -> PriceBook:
        """The prices through time; `keep` writes down those that have changed."""
        return self.ledger.prices(book_of(self.sources.spec), now, keep=keep)

    def settle(self, now: datetime) -> Settlement:
        """Book every hour that is over.

        Raises:
            UnknownPriceError: a node's group has no price.
        """
        return self.ledger.settle(self.prices(now, keep=True), now)

    def charges(self, since: datetime | None, until: datetime) -> list[Charge]:
        """Every charge from the beginning of the hour of `since` (None: of all time) to `until`."""
        return self.ledger.charges(since or _BEGINNING, until, self.prices(until))

    def spent(self, now: datetime) -> list[Spent]:
        """What counts for the budgets, added up within the stretches that they tell apart."""
        budgets = self.sources.spec.budgets
        starts = {window(b.per, now) or _BEGINNING for b in budgets}
        cuts = [*sorted(starts), now]
        book = self.prices(now)
        found: list[Spent] = []
        for begin, end in pairwise(cuts):
            sums = self.ledger.sums(begin, end, book)
            found += [Spent(begin, *key, amount) for key, amount in sorted(sums.items())]
        return found

    def works(self, now: datetime) -> list[Work]:
        """Everything that runs on the cluster, and every job that is open."""
        jobs = self.sources.jobs.jobs()
        whose = Ownership(jobs)
        facts = self.sources.facts.between(now - _LOOK_BACK, now)
        there = running(facts, now)
        found = {
            Work(u.owner_kind, u.owner, mine.team, mine.project)
            for u in facts.uses
            if u.until is None and u.node_id in there and u.owner_kind in _WORKING
            for mine in [whose.of(u.job_id, u.owner)]
        }
        found |= {Work("job", j.submission_id, j.team, j.project) for j in jobs if not j.ended}
        return sorted(found)

    def job_of(self, work: Work, now: datetime) -> JobRecord | None:
        """The job that some work is, or is a part of."""
        whose = Ownership(self.sources.jobs.jobs())
        facts = self.sources.facts.between(now - _LOOK_BACK, now)
        ids = [u.job_id for u in facts.uses if (u.owner_kind, u.owner) == (work.kind, work.owner)]
        return whose.job(work.owner, *ids)

    def standings(self, now: datetime, also: Iterable[Work] = ()) -> list[Standing]:
        """Every budget as it stands, also for work that asks to be let in."""
        budgets = self.sources.spec.budgets
        if not budgets:
            return []
        return standings(budgets, self.spent(now), [*also, *self.works(now)], now)

    def rate(self, now: datetime) -> int:
        """What runs now, nano-dollars an hour."""
        facts = self.sources.facts.between(now - _LOOK_BACK, now)
        book = self.prices(now)
        at = round(now.timestamp() * 1_000_000)
        return sum(book.at(n.group, n.market, at) for n in running(facts, now).values())

    def job_costs(self, charges: Sequence[Charge]) -> dict[str, int]:
        """Nano-dollars of each job in the history, its runs and endpoints included, by submission id."""
        whose = Ownership(self.sources.jobs.jobs())
        sums: dict[str, int] = {}
        for charge in charges:
            job = whose.job(charge.job, charge.owner) if charge.job or charge.kind == "job" else None
            if job is not None:
                sums[job.submission_id] = sums.get(job.submission_id, 0) + charge.nano
        return sums

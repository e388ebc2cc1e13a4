"""Facts and jobs that a test writes down itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from rayplat.cluster.facts import NodeFact, UseFact
from rayplat.cluster.jobs.record import JobRecord
from rayplat.cluster.spec import ClusterSpec, parse_spec
from rayplat.cost.accounts import Sources
from rayplat.cost.prices import PriceBook, PriceStep
from rayplat.cost.usage import Facts

T0 = datetime(2026, 3, 2, 8, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)


@dataclass
class FakeFacts:
    nodes: list[NodeFact] = field(default_factory=list)
    uses: list[UseFact] = field(default_factory=list)

    def between(self, begin: datetime, end: datetime) -> Facts:
        nodes = [n for n in self.nodes if n.started < end and (n.ended or n.last_seen) > begin]
        uses = [u for u in self.uses if u.since < end and (u.until is None or u.until > begin)]
        return Facts(nodes, uses)

    def earliest(self) -> datetime | None:
        return min((n.started for n in self.nodes), default=None)


@dataclass
class FakeJobs:
    records: list[JobRecord] = field(default_factory=list)

    def jobs(self, since: datetime | None = None) -> Sequence[JobRecord]:
        return [r for r in self.records if since is None or r.submitted_at >= since]

    def set_cost(self, submission_id: str, cost: Decimal) -> None:
        self.records = [
            replace(r, cost=cost) if r.submission_id == submission_id else r for r in self.records
        ]


def node(  # noqa: PLR0917  # written as a line of a table
    name: str,
    begin: float,
    end: float | None,
    group: str = "cpu",
    market: str = "on-demand",
    seen: float | None = None,
    **resources: float,
) -> NodeFact:
    """A node by hours after T0."""
    last = T0 + (seen if seen is not None else end or 0.0) * HOUR
    return NodeFact(
        name,
        group,
        market,  # type: ignore[arg-type]
        T0 + begin * HOUR,
        None if end is None else T0 + end * HOUR,
        last,
        resources or {"CPU": 4.0},
    )


def use(  # noqa: PLR0917  # written as a line of a table
    name: str,
    owner: str,
    begin: float,
    end: float | None,
    kind: str = "job",
    job: str = "",
    **resources: float,
) -> UseFact:
    """A use by hours after T0."""
    return UseFact(
        name,
        kind,  # type: ignore[arg-type]
        owner,
        job,
        resources or {"CPU": 1.0},
        T0 + begin * HOUR,
        None if end is None else T0 + end * HOUR,
    )


def job(name: str, team: str = "", project: str = "", begin: float = 0.0) -> JobRecord:
    return JobRecord(submission_id=name, team=team, project=project, submitted_at=T0 + begin * HOUR)


def book(**usd_per_hour: int) -> PriceBook:
    """Nano-dollars an hour by group, the same on both markets."""
    return PriceBook(
        {
            (group, market): (PriceStep(0, price),)
            for group, price in usd_per_hour.items()
            for market in ("on-demand", "spot")
        }
    )


GROUPS = """
groups:
  head: {kind: head, cpus: 4}
  cpu: {kind: cpu, cpus: 4, max: 4}
  gpu: {kind: gpu, cpus: 4, gpus: 1, accelerator: L4, max: 2}
prices:
  own:
    head: {on_demand: 0.5}
    cpu: {on_demand: 1.0, spot: 0.25}
    gpu: {on_demand: 3.0}
teams:
  vision: {members: [ada]}
  text: {members: [bob]}
"""


def spec(budgets: str = "") -> ClusterSpec:
    return parse_spec(GROUPS + budgets)


def sources(facts: FakeFacts, jobs: FakeJobs, budgets: str = "") -> Sources:
    return Sources(facts, jobs, spec(budgets))

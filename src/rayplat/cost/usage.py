"""The cluster's facts as the meter needs them, and whose each job is.

Knows where facts and jobs are read; it does not know prices. A node whose end was never seen is
charged to the moment at which it was last seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol

from rayplat.cluster.facts import NodeFact, UseFact
from rayplat.cluster.jobs.record import JobRecord
from rayplat.core.errors import NotFoundError
from rayplat.core.settings import Settings
from rayplat.cost.meter import NodeSpan, UseSpan

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """A moment as whole microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _US


def moment(us: int) -> datetime:
    """Microseconds since 1970 as a moment in UTC, exactly."""
    return _EPOCH + us * _US


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen of a window: nodes from their beginning, and who held what."""

    nodes: Sequence[NodeFact] = ()
    uses: Sequence[UseFact] = ()


class FactSource(Protocol):
    """Where facts come from."""

    def between(self, begin: datetime, end: datetime) -> Facts:
        """All nodes and uses that overlap a window, each with its whole life."""
        ...

    def earliest(self) -> datetime | None:
        """When the first node started; None if there never was one."""
        ...


class JobSource(Protocol):
    """Where jobs come from, and where it is told what they have cost."""

    def jobs(self, since: datetime | None = None) -> Sequence[JobRecord]:
        """Those that were submitted since a moment, or all; the newest first."""
        ...

    def set_cost(self, submission_id: str, cost: Decimal) -> None:
        """Say what a job has cost so far, USD."""
        ...


@dataclass(frozen=True, slots=True)
class Whose:
    """The team and the project of an owner; empty where nobody said."""

    team: str = ""
    project: str = ""


class Ownership:
    """Whose a job is, by either of its ids."""

    def __init__(self, jobs: Iterable[JobRecord]) -> None:
        self._known: dict[str, JobRecord] = {}
        for job in jobs:
            for name in (job.ray_job_id, job.submission_id):
                if name:
                    self._known.setdefault(name, job)

    def job(self, *names: str) -> JobRecord | None:
        """The first job that has one of these ids."""
        return next((self._known[name] for name in names if name in self._known), None)

    def of(self, *names: str) -> Whose:
        """The team and project of the first job that has one of these ids."""
        found = self.job(*names)
        return Whose(found.team, found.project) if found else Whose()


def spans(facts: Facts) -> tuple[list[NodeSpan], list[UseSpan]]:
    """Facts as spans of whole microseconds."""
    nodes = [
        NodeSpan(n.node_id, n.group, n.market, micros(n.started), micros(_end(n)), n.resources)
        for n in facts.nodes
    ]
    ends: dict[str, int] = {}
    for node in nodes:
        ends[node.node] = max(node.end, ends.get(node.node, 0))
    uses = []
    for use in facts.uses:
        last = ends.get(use.node_id)
        if last is not None:
            until = last if use.until is None else micros(use.until)
            since = micros(use.since)
            uses.append(
                UseSpan(use.node_id, use.owner_kind, use.owner, use.job_id, since, until, use.resources)
            )
    return nodes, uses


def _end(node: NodeFact) -> datetime:
    return node.last_seen if node.ended is None else node.ended


def running(facts: Facts, now: datetime, fresh: timedelta = timedelta(minutes=5)) -> Mapping[str, NodeFact]:
    """The nodes that run, by id: not ended, and seen a moment ago."""
    return {n.node_id: n for n in facts.nodes if n.ended is None and now - n.last_seen <= fresh}


class JobsOf:
    """The jobs in the history of a platform."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def jobs(self, since: datetime | None = None) -> Sequence[JobRecord]:
        """See `JobSource`."""
        from rayplat.cluster.jobs.history import JobHistory

        with closing(JobHistory(self._settings)) as history:
            found = history.newest(_MOST_JOBS)
        return [job for job in found if since is None or job.submitted_at >= since]

    def set_cost(self, submission_id: str, cost: Decimal) -> None:
        """See `JobSource`; a job that is not in the history any more is left out."""
        from rayplat.cluster.jobs.history import JobHistory

        with closing(JobHistory(self._settings)) as history, suppress(NotFoundError):
            history.set_cost(submission_id, cost)


_MOST_JOBS = 100_000

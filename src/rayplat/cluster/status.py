"""What a platform runs and why something waits, in one value for people and programs.

Knows how a look at the cluster is summed up by group; it does not know what it costs. Starts nothing.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rayplat.cluster.facts import Demand
from rayplat.cluster.head import read_head
from rayplat.cluster.history import ClusterHistory
from rayplat.cluster.observe import Look, Observer
from rayplat.cluster.processes import ours
from rayplat.cluster.recorder import place_of, reasons
from rayplat.cluster.session import gcs_address
from rayplat.cluster.spec import ClusterSpec, load_spec
from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings

_STATIC = ("node:", "accelerator_type:")


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """The nodes of one group. `used` is the held part of each resource, 0 to 1.

    `leaving` of the nodes were told that they are to go; `taken` went so since the head started.
    """

    group: str
    nodes: int
    starting: int
    spot: int
    most: int | None
    used: Mapping[str, float]
    leaving: int = 0
    taken: int = 0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node; `leaves` is when it goes, where that was told."""

    node_id: str
    group: str
    market: str
    started: datetime
    idle_s: float
    used: Mapping[str, float]
    resources: Mapping[str, float]
    leaves: datetime | None = None


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """What a team's open jobs have declared of a resource, and what it may hold; `why` where no more fits."""

    team: str
    resource: str
    declared: float
    quota: float
    why: str


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What a platform has running. Resources are logical: CPUs, GPUs, bytes of memory."""

    address: str | None
    dashboard: str | None
    processes: tuple[tuple[int, str], ...]
    resources: dict[str, float]
    available: dict[str, float]
    groups: tuple[GroupStatus, ...] = ()
    nodes: tuple[NodeStatus, ...] = ()
    waiting: tuple[Demand, ...] = ()
    held: tuple[tuple[str, str, str, Mapping[str, float]], ...] = ()
    quotas: tuple[QuotaStatus, ...] = ()


def status(settings: Settings) -> ClusterStatus:
    """What runs now, without starting anything.

    Raises:
        UnavailableError: the cluster is there and does not answer.
    """
    head = None if settings.ray.address else read_head(settings)
    processes = tuple((p.pid, _title(p)) for p in ours(settings))
    if head is None and not settings.ray.address:
        return ClusterStatus(None, None, processes, {}, {})
    observer = Observer(gcs_address(settings))
    try:
        look = observer.look()
    finally:
        observer.close()
    spec = load_spec(Path(settings.ray.spec))
    simulated = head is not None and head.simulated
    return ClusterStatus(
        address=head.address if head else settings.ray.address,
        dashboard=head.dashboard if head else None,
        processes=processes,
        resources=_sum(node.resources for node in look.alive),
        available=_sum(node.available for node in look.alive),
        groups=_groups(look, spec, simulated),
        nodes=tuple(
            NodeStatus(n.node_id, n.group, n.market, n.started, n.idle_s, n.used, n.resources, n.leaves)
            for n in look.alive
        ),
        waiting=(*_waiting(settings, look, spec, simulated), *_in_line(settings, spec)),
        held=tuple((u.node_id, u.owner.kind, u.owner.name, u.resources) for u in look.uses),
        quotas=_quotas(settings, spec),
    )


def _quotas(settings: Settings, spec: ClusterSpec) -> tuple[QuotaStatus, ...]:
    """The teams' quotas beside what their open jobs have declared."""
    if not any(team.quota for team in spec.teams.values()):
        return ()
    from rayplat.cluster.jobs.history import JobHistory
    from rayplat.cluster.jobs.quota import quota_status

    with contextlib.closing(JobHistory(settings)) as history:
        jobs = history.unsettled()
    return tuple(
        QuotaStatus(name, resource, held, limit, "over a quota: a further job is refused" * (held >= limit))
        for name, team in sorted(spec.teams.items())
        for resource, held, limit in quota_status(name, team, jobs)
    )


def _sum(many: Any) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in many:
        for name, amount in one.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def _groups(look: Look, spec: ClusterSpec, simulated: bool) -> tuple[GroupStatus, ...]:
    names = [node.group for node in look.alive]
    names = [*(spec.groups if simulated else ()), *names]
    found = []
    for name in dict.fromkeys(names):
        nodes = [node for node in look.alive if node.group == name]
        total, free = _sum(n.resources for n in nodes), _sum(n.available for n in nodes)
        used = {
            k: (v - free.get(k, 0.0)) / v for k, v in sorted(total.items()) if v and not k.startswith(_STATIC)
        }
        starting = sum(n for kind, n in look.starting.items() if kind in (name, f"{name}-spot"))
        spot = sum(node.market == "spot" for node in nodes)
        most = spec.groups[name].max if simulated and name in spec.groups else None
        leaving = sum(node.leaves is not None for node in nodes)
        taken = sum(node.taken for node in look.nodes if node.group == name)
        found.append(GroupStatus(name, len(nodes), starting, spot, most, used, leaving, taken))
    return tuple(found)


def _waiting(settings: Settings, look: Look, spec: ClusterSpec, simulated: bool) -> tuple[Demand, ...]:
    if not look.demands:
        return ()
    since = _known_since(settings)
    why = reasons(look, spec, simulated)
    now = datetime.now(UTC)
    return tuple(
        Demand(d.resources, d.count, since.get(_key(d.resources), now), why[i])
        for i, d in enumerate(look.demands)
    )


def _in_line(settings: Settings, spec: ClusterSpec) -> tuple[Demand, ...]:
    """Jobs that wait for room in their team's quota: the cluster itself has not heard of them."""
    if not any(team.quota for team in spec.teams.values()):
        return ()
    from rayplat.cluster.jobs.line import Line

    with Line(settings) as line:
        return tuple(Demand(w.resources, 1, w.since, w.why) for w in line.waiting(datetime.now(UTC)))


def _known_since(settings: Settings) -> dict[tuple[tuple[str, float], ...], datetime]:
    """Since when each shape waits, as far as the recorder wrote it down."""
    history = ClusterHistory(settings)
    try:
        return {_key(demand.resources): demand.since for demand in history.demands(place_of(settings))}
    except UnavailableError:
        return {}
    finally:
        history.close()


def _key(resources: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(resources.items()))


def _title(process: Any) -> str:
    import psutil

    with contextlib.suppress(psutil.Error):
        line = process.cmdline()
        return " ".join(line).strip()[:120] if line else str(process.name())
    return "(gone)"

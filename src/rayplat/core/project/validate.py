"""A project as a whole: every declaration is checked, and every fault is told at once.

Knows the order of the checks, and monitors and the replay; what makes a table, a view, a model
and an endpoint good is known beside it. Nothing here raises on a wrong project.
"""

from datetime import datetime, timedelta
from typing import Any

from rayplat.core.errors import Fault, Where
from rayplat.core.project.check_checks import check_references
from rayplat.core.project.check_endpoint import check_endpoint
from rayplat.core.project.check_model import check_model
from rayplat.core.project.check_table import check_table
from rayplat.core.project.check_view import check_view
from rayplat.core.project.faults import Faults
from rayplat.core.project.model import METRICS, Decay, Drift, Monitor, Replay
from rayplat.core.project.project import Project


def validate(project: Project) -> list[Fault]:
    """Every fault of the project, in the order of its declarations; empty if it holds together."""
    faults = Faults()
    faults.name(project.where, "a project", project.name)
    if (
        faults.expect(project.where, "the owner", project.owner, str, "an address that people can write to")
    ) and (not project.owner.strip()):
        faults.add(project.where, "the owner is empty", "give an address that people can write to")
    _check_unique(project, faults)
    for table in project.tables:
        check_table(table, faults)
    check_references(project.tables, faults)
    for view in project.views:
        check_view(view, project, faults)
    for model in project.models:
        check_model(model, project, faults)
    for endpoint in project.endpoints:
        check_endpoint(endpoint, project, faults)
    for monitor in project.monitors:
        _check_monitor(monitor, project, faults)
    for replay in project.replays:
        _check_replay(replay, project.where, faults)
    if len(project.replays) > 1:
        faults.add(project.where, f"{len(project.replays)} replays are declared", "declare one")
    return faults.found


def _check_unique(project: Project, faults: Faults) -> None:
    kinds: dict[str, list[Any]] = {
        "table": list(project.tables),
        "view": list(project.views),
        "model": list(project.models),
        "endpoint": list(project.endpoints),
        "monitor": list(project.monitors),
    }
    for kind, declared in kinds.items():
        faults.unique(kind, [(item.name, item.where) for item in declared])


def _check_monitor(monitor: Monitor, project: Project, faults: Faults) -> None:
    where, name = monitor.where, f"monitor {monitor.name!r}"
    faults.name(where, "a monitor", monitor.name)
    faults.known(where, f"{name}: the endpoint", monitor.endpoint, [e.name for e in project.endpoints])
    if faults.expect(where, f"{name}: drift", monitor.drift, Drift, "an rp.Drift(…)"):
        _check_positive(where, f"{name}: psi_over", monitor.drift.psi_over, faults)
    if faults.expect(where, f"{name}: decay", monitor.decay, Decay, "an rp.Decay(…)"):
        faults.known(where, f"{name}: the decay's metric", monitor.decay.metric, METRICS)
        _check_positive(where, f"{name}: drop_over", monitor.decay.drop_over, faults)


def _check_positive(where: Where, subject: str, value: Any, faults: Faults) -> None:
    if faults.expect(where, subject, value, (int, float), "a number over 0") and not value > 0:
        faults.add(where, f"{subject} is {value}", "give a number over 0")


def _check_replay(replay: Replay, where: Where, faults: Faults) -> None:
    wanted = "a time such as '2013-07-01'"
    good = [
        faults.expect(where, f"the replay's {field}", getattr(replay, field), datetime, wanted)
        for field in ("history_until", "live_until")
    ]
    if all(good) and replay.history_until >= replay.live_until:
        faults.add(
            where,
            f"the replay's history_until {replay.history_until:%Y-%m-%d %H:%M} is not before its "
            f"live_until {replay.live_until:%Y-%m-%d %H:%M}",
            "history comes first, then what is live",
        )
    if (faults.expect(where, "the replay's tick", replay.tick, timedelta, "a timedelta")) and (
        replay.tick <= timedelta(0)
    ):
        faults.add(where, f"the replay's tick is {replay.tick}", "give a length of time over 0")

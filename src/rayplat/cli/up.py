"""`rayplat up`, `down` and `status`: the platform's processes on this machine.

Knows how they are shown; starting and stopping is known in `cluster.session`.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import cell, fields, plain, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rayplat.cluster.status import ClusterStatus

app = single()
_GIB = 2**30
_BYTES = ("memory", "object_store_memory")


@command(app)
def up(call: Call) -> None:
    """Start the platform's Ray on this machine, or find it running."""
    from rayplat.cluster.session import up as start
    from rayplat.cost.steward import start as watch_costs

    settings = call.settings()
    info = start(settings)
    if not settings.ray.address:
        watch_costs(settings)
    state = "started" if info.started else "was running"
    call.show(info, lambda: fields({"ray": f"{info.address} ({state})", "dashboard": info.dashboard}))


@command(app)
def down(call: Call) -> None:
    """Stop every process that the platform runs on this machine; state on disk is kept."""
    from rayplat.cluster.session import down as stop

    settings = call.settings()
    ended = stop(settings)
    call.show({"ended": ended}, lambda: f"{len(ended)} processes ended; {settings.home} is kept")


@command(app)
def status(call: Call) -> None:
    """What runs by group, what waits and why, who holds what, and what it has cost. Starts nothing."""
    from rayplat.cluster.status import status as look

    settings = call.settings()
    found = look(settings)
    cost = _cost(settings) if found.address else None
    call.show({**plain(found), "cost_usd": cost}, lambda: _text(found, cost))


def _cost(settings: Any) -> float | None:
    """What everything that is in the history has cost so far, USD; None where a price is not known."""
    from rayplat.core.errors import RayplatError
    from rayplat.cost.accounts import Accounts
    from rayplat.cost.ledger import total

    try:
        with Accounts(settings) as accounts:
            return float(total(accounts.charges(None, datetime.now(UTC)))) / 1e9
    except RayplatError:
        return None


def _text(found: "ClusterStatus", cost: float | None) -> "RenderableType":
    from rich.console import Group

    known = {"ray": found.address or "not running", "dashboard": found.dashboard}
    if cost is not None:
        known["cost so far"] = f"{cost:.4f} USD"
    now = datetime.now(UTC)
    parts = [
        fields(known),
        table(
            ["group", "nodes", "launching", "spot", "leaving", "taken away", "max", "in use"],
            [
                (g.group, g.nodes, g.starting, g.spot, g.leaving, g.taken, g.most, _shares(g.used))
                for g in found.groups
            ],
            title="groups",
        ),
        table(
            ["waiting", "requests", "for", "why"],
            [(_amounts(d.resources), d.count, _ago(now, d.since), d.why) for d in found.waiting],
            title="demand",
        ),
        *_quotas(found),
        table(
            ["owner", "of", "node", "holds"],
            [(name, kind, node[:12], _amounts(r)) for node, kind, name, r in found.held],
            title="in use",
        ),
        table(
            ["node", "group", "market", "since", "idle", "leaves", "in use"],
            [
                (
                    n.node_id[:12],
                    n.group,
                    n.market,
                    n.started,
                    f"{n.idle_s:.0f} s" if n.idle_s else None,
                    _in(now, n.leaves),
                    _amounts({k: v for k, v in n.used.items() if v > 0 and not k.startswith("node:")}),
                )
                for n in found.nodes
            ],
            title="nodes",
        ),
        table(["pid", "process"], found.processes, title="processes"),
    ]
    return Group(*parts)


def _quotas(found: "ClusterStatus") -> "list[RenderableType]":
    if not found.quotas:
        return []
    rows = [
        (q.team, _amounts({q.resource: q.declared}), _amounts({q.resource: q.quota}), q.why)
        for q in found.quotas
    ]
    return [table(["team", "declared", "quota", "why"], rows, title="quotas")]


def _amounts(resources: Any) -> str:
    shown = [
        f"{v / _GIB:.1f} GiB {k}" if k in _BYTES else f"{cell(float(v))} {k}" for k, v in resources.items()
    ]
    return ", ".join(shown)


def _shares(used: Any) -> str:
    return ", ".join(f"{k} {share:.0%}" for k, share in used.items() if k not in _BYTES)


def _in(now: datetime, then: datetime | None) -> str | None:
    return None if then is None else f"in {max(0.0, (then - now).total_seconds()):.0f} s"


def _ago(now: datetime, since: datetime) -> str:
    return f"{max(0.0, (now - since).total_seconds()):.0f} s"

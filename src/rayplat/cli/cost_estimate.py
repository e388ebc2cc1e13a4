"""`rayplat cost estimate`: what training a model will cost before it starts.

Knows where rows, past runs and prices are read; how they become a range is known in `cost.estimate`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call
from rayplat.cli.output import fields
from rayplat.cli.parameters import ProjectAddress
from rayplat.core.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from rayplat.cluster.spec import ClusterSpec
    from rayplat.core.project.model import Model
    from rayplat.core.project.project import Project
    from rayplat.cost.accounts import Accounts
    from rayplat.cost.estimate import PastRun
    from rayplat.data.lakehouse.catalog import Lakehouse

ModelName = Annotated[str, typer.Argument(metavar="MODEL", show_default=False)]
Group = Annotated[
    str | None, typer.Option("--group", help="The node group that it runs on.", show_default="the first")
]
Nodes = Annotated[int, typer.Option("--nodes", min=1, help="So many nodes of the group.")]
Market = Annotated[str, typer.Option("--market", help="on-demand or spot.")]
Rows = Annotated[
    int | None, typer.Option("--rows", min=1, help="So many rows.", show_default="its training set's")
]
Pace = Annotated[
    float | None, typer.Option("--rows-per-second", help="Instead of past runs' pace.", show_default=False)
]


def estimate(  # noqa: PLR0917  # Typer gives them by name
    call: Call,
    project: ProjectAddress,
    model: ModelName,
    group: Group = None,
    nodes: Nodes = 1,
    market: Market = "on-demand",
    rows: Rows = None,
    rows_per_second: Pace = None,
) -> None:
    """What training a model will cost: its rows, past runs' pace, and the group's price. Starts nothing."""
    from rayplat.cost.accounts import Accounts
    from rayplat.cost.estimate import estimate as foresee
    from rayplat.cost.ledger import now_utc
    from rayplat.cost.money import dollars, shown
    from rayplat.cost.prices import book_of
    from rayplat.cost.usage import micros

    loaded = call.project(project)
    chosen = _model(loaded, model)
    platform = call.platform()
    now = now_utc()
    with Accounts(platform.settings) as accounts:
        named = group or _group(accounts.sources.spec)
        _known(accounts.sources.spec, named, market)
        price = accounts.prices(now).at(named, market, micros(now))
        no_spot = market == "spot" and named in book_of(accounts.sources.spec).no_spot
        sizes = _sizes(platform.lake, chosen)
        past = _past(accounts, loaded.name, sizes) if rows_per_second is None else []
    found = foresee(past, rows or _rows(sizes, chosen), nodes, price, rows_per_second)
    amounts: dict[str, int | None] = {
        "low": found.low,
        "likely": found.likely,
        "high": found.high,
        "past_low": found.past_low,
        "past_high": found.past_high,
    }
    data: dict[str, Any] = {
        "model": model,
        "group": named,
        "market": market,
        "spot_price_known": None if market != "spot" else not no_spot,
        "nodes": nodes,
        "rows": found.rows,
        "rows_per_s": found.rows_per_s,
        "seconds": found.seconds,
        "past_runs": found.runs,
        "node_usd_per_hour": f"{dollars(price):f}",
        **{f"{k}_usd": None if v is None else f"{dollars(v):f}" for k, v in amounts.items()},
    }
    hourly = f"{shown(price)} an hour" + (", the price on demand: no spot price is named" if no_spot else "")
    words = {
        "model": f"{model}, {found.rows:,} rows",
        "on": f"{nodes} x {named} ({market}, {hourly})",
        "time": f"{timedelta(seconds=round(found.seconds))} at {found.rows_per_s:,.0f} rows a second",
        "cost": f"{shown(found.likely)} ({shown(found.low)} to {shown(found.high)})",
        "from": f"{found.runs} past runs" if rows_per_second is None else "the pace that was given",
    }
    call.show(data, lambda: fields(words))


def _model(project: "Project", name: str) -> "Model":
    found = next((m for m in project.models if m.name == name), None)
    if found is None:
        known = ", ".join(m.name for m in project.models) or "none"
        raise NotFoundError(f"the project has no model {name!r}", f"there is: {known}")
    return found


def _known(spec: "ClusterSpec", group: str, market: str) -> None:
    from rayplat.cost.prices import MARKETS

    if market not in MARKETS:
        raise UserError(f"there is no market {market!r}", f"--market is {' or '.join(MARKETS)}")
    if group not in spec.groups:
        raise NotFoundError(f"the cluster file has no group {group!r}", f"there is: {', '.join(spec.groups)}")


def _group(spec: "ClusterSpec") -> str:
    gpus = [name for name, group in spec.workers.items() if group.gpus]
    return next(iter([*gpus, *spec.workers, spec.head[0]]))


def _sizes(lake: "Lakehouse", model: "Model") -> list[tuple[Any, int]]:
    """When each training set was built, and its rows; the oldest first."""
    name = f"training.{model.name}"
    if not lake.exists(name):
        return []
    return [(snapshot.at, snapshot.rows_total) for snapshot in lake.table(name).history()]


def _rows(sizes: Sequence[tuple[Any, int]], model: "Model") -> int:
    if not sizes:
        raise NotFoundError(
            f"model {model.name!r} has no training set yet", "give --rows, or build one: `rayplat train`"
        )
    return sizes[-1][1]


def _past(accounts: "Accounts", project: str, sizes: Sequence[tuple[Any, int]]) -> "list[PastRun]":
    """The project's training jobs that have ended well, with the training set that there was at their end."""
    from rayplat.cluster.jobs.record import JobState
    from rayplat.cost.estimate import PastRun

    found = []
    for job in accounts.sources.jobs.jobs():
        if job.project != project or job.status != JobState.SUCCEEDED or "train" not in job.command:
            continue
        if job.started_at is None or job.ended_at is None:
            continue
        rows = [count for at, count in sizes if at <= job.ended_at]
        if rows:
            seconds = (job.ended_at - job.started_at).total_seconds()
            paid = 0 if job.cost is None else int(job.cost * 10**9)
            found.append(PastRun(job.submission_id, rows[-1], seconds, paid))
    return found

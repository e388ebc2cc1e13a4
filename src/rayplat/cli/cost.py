"""`rayplat cost`: what the cluster costs, whose it is, what will come, and what was saved.

Knows the options and how money is shown; counting and deciding are known in `cost`.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.cost_estimate import estimate
from rayplat.cli.output import fields, table
from rayplat.cli.parameters import parse_time
from rayplat.core import plugins

if TYPE_CHECKING:
    from rayplat.cost.accounts import Accounts
    from rayplat.cost.ledger import Charge

app = group("What the cluster costs, whose it is, and what will come.")
command(app, "estimate")(estimate)

By = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        help="team, project, job, run, endpoint, kind, group, market or node; may be repeated.",
        show_default="team",
    ),
]
Every = Annotated[str, typer.Option("--every", help="all, hour, day, week or month.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="ISO 8601.", show_default="30 days ago")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="ISO 8601.", show_default="now")]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Write a page with plots.", show_default=False)
]


@command(app, "report")
def report_(  # noqa: PLR0917  # Typer gives them by name
    call: Call,
    by: By = None,
    every: Every = "all",
    since: Since = None,
    until: Until = None,
    plot: Plot = None,
) -> None:
    """What was spent, by any dimensions and stretches of time, idleness told apart; it adds up."""
    from rayplat.cost.ledger import total
    from rayplat.cost.money import shown
    from rayplat.cost.report import report

    end = parse_time(until)
    names = by or ["team"]
    with _accounts(call) as accounts:
        charges = _charges(call, accounts, _start(since, end), end)
        source = accounts.prices(end).source
    lines = report(charges, names, every)
    data = {
        "since": _start(since, end),
        "until": end,
        "total_usd": _usd(total(charges)),
        "prices": source,
        "lines": [
            {"begin": line.begin, **dict(zip(names, line.values, strict=True)), "usd": _usd(line.nano)}
            for line in lines
        ],
    }
    if plot:
        page = plugins.load("page", "cost")
        call.note(f"the page is {page(plot, charges, names[0], (_start(since, end), end), source)}")
    call.show(
        data,
        lambda: table(
            [*(["from"] if every != "all" else []), *names, "cost"],
            [
                *[(*([ln.begin] if every != "all" else []), *ln.values, shown(ln.nano)) for ln in lines],
                (*([""] if every != "all" else []), "all", *[""] * (len(names) - 1), shown(total(charges))),
            ],
        ),
    )
    call.note(f"prices: {source}")


@command(app, "forecast")
def forecast_(call: Call, at: Until = None, plot: Plot = None) -> None:
    """What this month will have cost at its end: by the trend of days, and by what runs now."""
    from rayplat.cost.budget import window
    from rayplat.cost.forecast import forecast
    from rayplat.cost.ledger import total
    from rayplat.cost.report import by_day

    now = parse_time(at)
    month = window("month", now) or now
    with _accounts(call) as accounts:
        charges = _charges(call, accounts, min(month, now - timedelta(days=28)), now)
        rate = accounts.rate(now)
        budgets = accounts.sources.spec.budgets
        source = accounts.prices(now).source
    days = by_day(charges, now - timedelta(days=28), now)
    while days and not days[0][1]:  # the platform was not there yet
        days.pop(0)
    spent = total([c for c in charges if c.begin >= month])
    found = forecast([amount for _, amount in days], spent, rate, now)
    names = ("spent", "by_trend", "by_running", "low", "high")
    amounts = {f"{name}_usd": _usd_or_none(getattr(found, name)) for name in names}
    data = {
        "at": now,
        "month_end": found.end,
        **amounts,
        "rate_usd_per_hour": _usd(rate),
        "days": found.days,
    }
    if plot:
        page = plugins.load("page", "cost-forecast")
        limits = {f"{b.scope} {b.name}": b.limit_usd for b in budgets if b.per == "month"}
        call.note(f"the page is {page(plot, found, charges, limits, source)}")
    call.show(data, lambda: fields({"prices": source, **_told(data)}))


@command(app, "explain")
def explain_(
    call: Call,
    days: Annotated[int, typer.Option("--days", min=1, help="Compare so many days with those before.")] = 7,
    until: Until = None,
) -> None:
    """Why the last days cost more or less than those before: by group, team, project, and idleness."""
    from rayplat.cost.explain import explain

    end = parse_time(until)
    middle = end - timedelta(days=days)
    middle = middle.replace(minute=0, second=0, microsecond=0)
    begin = middle - timedelta(days=days)
    with _accounts(call) as accounts:
        charges = _charges(call, accounts, begin, end)
    before = [c for c in charges if c.begin < middle]
    after = [c for c in charges if c.begin >= middle]
    named = (
        ("the day before", "the last day")
        if days == 1
        else (
            f"the {days} days before",
            f"the last {days} days",
        )
    )
    found = explain(before, after, named)
    data = {
        "before_usd": _usd(found.before),
        "after_usd": _usd(found.after),
        "words": found.words,
        **{
            name: [
                {"name": c.name, "before_usd": _usd(c.before), "after_usd": _usd(c.after)} for c in changes
            ]
            for name, changes in found.dimensions.items()
        },
    }
    call.show(data, lambda: "\n".join(w[0].upper() + w[1:] for w in found.words))


@command(app)
def savings(call: Call, since: Since = None, until: Until = None, plot: Plot = None) -> None:
    """What was paid against a cluster that is always at its largest and on demand."""
    from rayplat.cost.savings import savings as compare
    from rayplat.cost.usage import micros, spans

    end = parse_time(until)
    begin = _start(since, end)
    with _accounts(call) as accounts:
        first = accounts.sources.facts.earliest()
        begin = max(begin, first) if first else begin
        book = accounts.prices(end)
        nodes, _ = spans(accounts.sources.facts.between(begin, end))
    found = compare(nodes, book, micros(begin), micros(end))
    names = ("fixed", "paid", "spot", "scale_to_zero", "elasticity")
    data = {"since": begin, "until": end, **{f"{name}_usd": _usd(getattr(found, name)) for name in names}}
    if plot:
        page = plugins.load("page", "cost-savings")
        call.note(f"the page is {page(plot, found, begin, end, book.source)}")
    call.show(data, lambda: fields({"prices": book.source, **_told(data)}))


@command(app)
def budgets(call: Call) -> None:
    """Every budget as it stands, and what was asked to stop."""
    from contextlib import closing

    from rayplat.cluster.stop_requests import StopRequests
    from rayplat.cost.ledger import now_utc
    from rayplat.cost.money import shown

    now = now_utc()
    with _accounts(call) as accounts, closing(StopRequests(accounts.settings)) as requests:
        found = accounts.standings(now)
        asked = requests.all()
    data = {
        "budgets": [
            {
                "scope": s.scope,
                "name": s.name,
                "per": s.per,
                "spent_usd": _usd(s.spent),
                "limit_usd": _usd(s.limit),
                "level": s.level.name.lower(),
            }
            for s in found
        ],
        "stop_requests": asked,
    }
    rows = [(s.scope, s.name, s.per, shown(s.spent), shown(s.limit), s.level.name.lower()) for s in found]
    call.show(data, lambda: table(["scope", "name", "per", "spent", "limit", "level"], rows, "budgets"))


@command(app)
def watch(call: Call) -> None:
    """Settle the ledger and see to the budgets until it is ended; `rayplat up` starts it by itself."""
    import signal
    import threading
    from contextlib import closing

    from rayplat.core.events import Event, EventBus
    from rayplat.cost.steward import watch as see_to_costs
    from rayplat.governance.audit_log import AuditLog

    settings = call.settings()
    ended = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: ended.set())
    bus = EventBus()
    with closing(AuditLog(settings)) as audit:
        bus.subscribe(Event, audit.record)
        see_to_costs(settings, bus, ended)


def _accounts(call: Call) -> "Accounts":
    from rayplat.cost.accounts import Accounts

    return Accounts(call.settings())


def _charges(call: Call, accounts: "Accounts", since: datetime, until: datetime) -> list["Charge"]:
    """Settle what is over first, so that what is shown is what is booked."""
    from rayplat.cost.ledger import now_utc

    accounts.settle(now_utc())
    return accounts.charges(since, until)


def _start(since: str | None, end: datetime) -> datetime:
    return end - timedelta(days=30) if since is None else parse_time(since)


def _usd(amount: int) -> str:
    from rayplat.cost.money import dollars

    return f"{dollars(amount):f}"


def _usd_or_none(amount: int | None) -> str | None:
    return None if amount is None else _usd(amount)


def _told(data: dict[str, Any]) -> dict[str, Any]:
    """Amounts for people: `spent_usd` with all its digits becomes `spent` in cents."""
    from rayplat.cost.money import nano, shown

    return {
        key.replace("_usd", "").replace("_", " "): shown(nano(value))
        if "_usd" in key and value is not None
        else value
        for key, value in data.items()
    }

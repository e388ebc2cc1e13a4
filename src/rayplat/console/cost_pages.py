"""The pages that `rayplat cost … --plot` writes.

Knows which figures, words and plot belong on each; it does not compute or draw them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from rayplat.console import cost_plots
from rayplat.console.cost_page import Section, write_cost_page
from rayplat.cost.forecast import Forecast
from rayplat.cost.ledger import Charge, total
from rayplat.cost.money import dollars, shown
from rayplat.cost.report import report
from rayplat.cost.savings import Savings

_HOURS_UNTIL = timedelta(days=3)


def report_page(
    path: Path, charges: Sequence[Charge], by: str, window: tuple[datetime, datetime], source: str
) -> Path:
    """Bars by day (or hour, for a few days) by a dimension, and the same as a table."""
    since, until = window
    begun = min((c.begin for c in charges), default=since)
    every = "hour" if until - max(begun, since) <= _HOURS_UNTIL else "day"
    lines = report(charges, [by], every)
    stretches = _stretches(max(begun, since), until, every)
    place = {at: n for n, at in enumerate(stretches)}
    amounts: dict[str, list[float]] = {}
    for line in lines:
        if line.begin is not None and line.begin in place:
            row = amounts.setdefault(line.values[0], [0.0] * len(stretches))
            row[place[line.begin]] += float(dollars(line.nano))
    names = [f"{at:%H:%M}" if every == "hour" else f"{at:%d %b}" for at in stretches]
    whole = report(charges, [by])
    section = Section(
        f"By {by}",
        (f"{shown(total(charges))} from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC.",),
        cost_plots.stacked(names, amounts, f"by {every}") if amounts else "",
        (by, "cost"),
        tuple((line.values[0], shown(line.nano)) for line in whole),
    )
    return write_cost_page(path, "What the cluster cost", source, [section])


def forecast_page(
    path: Path, found: Forecast, charges: Sequence[Charge], limits: Mapping[str, float], source: str
) -> Path:
    """The month's money so far, and where it goes."""
    days = [0.0] * found.at.day
    for charge in charges:
        if (charge.begin.year, charge.begin.month) == (found.at.year, found.at.month):
            days[charge.begin.day - 1] += float(dollars(charge.nano))
    end = (_float(found.by_trend), float(dollars(found.by_running)), _float(found.low), _float(found.high))
    length = (found.end - timedelta(days=1)).day
    svg = cost_plots.ahead(days, found.at.day, length, end, limits)
    trend = (
        f"{shown(found.by_trend)} by the trend of {found.days} days, " if found.by_trend is not None else ""
    )
    words = f"{shown(found.spent)} so far; at the end of the month {trend}"
    words += f"{shown(found.by_running)} if just what runs now goes on."
    return write_cost_page(path, "What the month will cost", source, [Section("This month", (words,), svg)])


def savings_page(path: Path, found: Savings, begin: datetime, end: datetime, source: str) -> Path:
    """From the fixed alternative to what was paid."""
    steps = {"elasticity": found.elasticity, "scale to zero": found.scale_to_zero, "spot": found.spot}
    svg = cost_plots.waterfall(
        float(dollars(found.fixed)),
        {name: float(dollars(amount)) for name, amount in steps.items()},
        float(dollars(found.paid)),
    )
    part = 100 - 100 * found.paid / found.fixed if found.fixed else 0
    words = (
        f"{shown(found.paid)} was paid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC.",
        (
            "Every group at its largest size, on demand, all the time, would have cost "
            f"{shown(found.fixed)}: {part:.0f} % was saved."
        ),
    )
    return write_cost_page(path, "What elasticity saved", source, [Section("Savings", words, svg)])


def _float(amount: int | None) -> float | None:
    return None if amount is None else float(dollars(amount))


def _stretches(first: datetime, last: datetime, every: str) -> list[datetime]:
    step = timedelta(hours=1) if every == "hour" else timedelta(days=1)
    at = first.replace(minute=0, second=0, microsecond=0)
    if every == "day":
        at = at.replace(hour=0)
    found = []
    while at < last:
        found.append(at)
        at += step
    return found

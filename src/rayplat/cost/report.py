"""Reports: charges added up by dimensions and by stretches of time.

Knows how charges are grouped; it does not know how they came about or how they are shown. Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rayplat.core.errors import UserError
from rayplat.cost.ledger import Charge
from rayplat.cost.meter import IDLE

NONE = "(none)"


def _owned(kind: str) -> Callable[[Charge], str]:
    return lambda c: c.owner if c.kind == kind else _otherwise(c)


def _otherwise(charge: Charge) -> str:
    return f"({charge.kind})"


def _people(pick: Callable[[Charge], str]) -> Callable[[Charge], str]:
    # Idleness is the group's, and the platform's own processes are nobody's: both are told apart.
    return lambda c: _otherwise(c) if c.kind in (IDLE, "platform") else pick(c) or NONE


DIMENSIONS: Mapping[str, Callable[[Charge], str]] = {
    "team": _people(lambda c: c.team),
    "project": _people(lambda c: c.project),
    "job": _people(lambda c: c.owner if c.kind == "job" else c.job),
    "run": _owned("run"),
    "endpoint": _owned("endpoint"),
    "kind": lambda c: c.kind,
    "group": lambda c: c.group,
    "market": lambda c: c.market,
    "node": lambda c: c.node,
}
EVERY = ("all", "hour", "day", "week", "month")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a report: a stretch of time, one value for each dimension, and nano-dollars."""

    begin: datetime | None
    values: tuple[str, ...]
    nano: int


def report(charges: Iterable[Charge], by: Sequence[str], every: str = "all") -> list[Line]:
    """Charges by dimensions, the dearest first within each stretch of time.

    Raises:
        UserError: there is no such dimension or stretch.
    """
    unknown = [name for name in by if name not in DIMENSIONS]
    if unknown:
        raise UserError(f"there is no dimension {unknown[0]!r}", f"there is: {', '.join(DIMENSIONS)}")
    if every not in EVERY:
        raise UserError(f"there is no stretch {every!r}", f"there is: {', '.join(EVERY)}")
    sums: dict[tuple[datetime | None, tuple[str, ...]], int] = {}
    for charge in charges:
        key = (stretch(charge.begin, every), tuple(DIMENSIONS[name](charge) for name in by))
        sums[key] = sums.get(key, 0) + charge.nano
    lines = [Line(begin, values, amount) for (begin, values), amount in sums.items() if amount]
    return sorted(lines, key=lambda n: (n.begin.timestamp() if n.begin else 0.0, -n.nano, n.values))


def stretch(at: datetime, every: str) -> datetime | None:
    """The beginning of the stretch of time that a moment is in (UTC; weeks begin on Monday)."""
    if every == "all":
        return None
    hour = at.replace(minute=0, second=0, microsecond=0)
    if every == "hour":
        return hour
    day = hour.replace(hour=0)
    if every == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if every == "month" else day


def by_day(charges: Iterable[Charge], first: datetime, last: datetime) -> list[tuple[datetime, int]]:
    """Nano-dollars of each day from `first` to before `last`; days without a charge are there with 0."""
    day, end = stretch(first, "day"), stretch(last, "day")
    sums: dict[datetime, int] = {}
    while day is not None and end is not None and day < end:
        sums[day] = 0
        day += timedelta(days=1)
    for charge in charges:
        on = stretch(charge.begin, "day")
        if on is not None and on in sums:
            sums[on] += charge.nano
    return list(sums.items())

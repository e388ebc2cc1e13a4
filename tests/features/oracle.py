"""What a view answers, by plain loops that are obviously right. Knows no engine and no store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class Event:
    """One source row."""

    entity: str | None
    event: datetime
    known: datetime
    partition: int
    offset: int
    x: float | None

    @property
    def rank(self) -> tuple[datetime, datetime, int, int]:
        return (self.event, self.known, self.offset, self.partition)


def latest(events: Sequence[Event], entity: str | None, at: datetime, ttl: timedelta | None) -> Event | None:
    """The row that answers a row transform."""
    best: Event | None = None
    for row in events:
        if entity is None or row.entity != entity or row.event > at or row.known > at:
            continue
        if ttl is not None and at - row.event > ttl:
            continue
        if best is None or row.rank > best.rank:
            best = row
    return best


def in_window(events: Sequence[Event], entity: str, at: datetime, length: timedelta) -> list[Event]:
    """The rows of a window, in their order."""
    found = [
        row for row in events if row.entity == entity and at - length < row.event <= at and row.known <= at
    ]
    return sorted(found, key=lambda row: row.rank)


def _total(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


AGGREGATES: dict[str, Callable[[list[float | None]], Any]] = {
    "sum": lambda xs: _total([x for x in xs if x is not None]),
    "mean": lambda xs: _total(kept) / len(kept) if (kept := [x for x in xs if x is not None]) else None,
    "count": lambda xs: sum(1 for x in xs if x is not None),
    "min": lambda xs: min((x for x in xs if x is not None), default=None),
    "max": lambda xs: max((x for x in xs if x is not None), default=None),
    "last": lambda xs: xs[-1] if xs else None,
    "rows": len,
}


def windowed(
    events: Sequence[Event], entity: str | None, at: datetime, length: timedelta, aggregate: str
) -> Any:
    """The value of one window feature."""
    if entity is None:
        return None
    return AGGREGATES[aggregate]([row.x for row in in_window(events, entity, at, length)])

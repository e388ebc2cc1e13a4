"""The forecast: what a month will have cost at its end.

Knows two ways to look ahead, the trend of the days and what runs now, and how sure the trend is; it
does not know where the days come from. Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rayplat.cost.budget import window

_Z80 = 1.2816  # the 90 % quantile of the normal distribution: 80 % lie within
_LEAST_DAYS = 3


@dataclass(frozen=True, slots=True)
class Forecast:
    """A month's cost, nano-dollars.

    Attributes:
        spent: from the month's beginning until now.
        by_trend: at the month's end, if days go on as the last ones did.
        by_running: at the month's end, if just what runs now goes on.
        low, high: 80 % of outcomes lie between, if the days scatter about their trend as they did; widened
            to hold `by_running`, which may know of a change that the days do not show yet. None with
            fewer than three days.
        days: how many whole days the trend is made of.
    """

    at: datetime
    end: datetime
    spent: int
    by_trend: int | None
    by_running: int
    low: int | None
    high: int | None
    days: int


def month_end(now: datetime) -> datetime:
    """The first moment of the next month."""
    first = window("month", now)
    after = (first or now) + timedelta(days=32)
    return after.replace(day=1)


def forecast(days: Sequence[int], spent: int, rate: int, now: datetime) -> Forecast:
    """Look ahead to the end of the month.

    Args:
        days: nano-dollars of the last whole days, oldest first, the last one yesterday.
        spent: nano-dollars of this month until now.
        rate: what runs now, nano-dollars an hour.

    The trend is a line by least squares; the interval is that of a sum of new days about it: the scatter of
    the days, and how unsure level and slope are (Draper and Smith, "Applied Regression Analysis", ch. 1).
    """
    end = month_end(now)
    left_hours = (end - now) / timedelta(hours=1)
    by_running = spent + round(rate * left_hours)
    if len(days) < _LEAST_DAYS:
        return Forecast(now, end, spent, None, by_running, None, None, len(days))
    ahead, spread = _ahead(days, now, end)
    by_trend = spent + round(max(0.0, ahead))
    low = max(spent, round(by_trend - _Z80 * spread))
    high = round(by_trend + _Z80 * spread)
    return Forecast(
        now, end, spent, by_trend, by_running, min(low, by_running), max(high, by_running), len(days)
    )


def _ahead(days: Sequence[int], now: datetime, end: datetime) -> tuple[float, float]:
    """The trend's sum from now to the end, and the standard deviation of what really comes."""
    count = len(days)
    middle, mean = (count - 1) / 2, sum(days) / count
    square = sum((x - middle) ** 2 for x in range(count))
    slope = sum((x - middle) * (y - mean) for x, y in enumerate(days)) / square
    rest = sum((y - mean - slope * (x - middle)) ** 2 for x, y in enumerate(days))
    scatter = math.sqrt(rest / max(count - 2, 1))
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = (now - midnight) / timedelta(days=1)
    # The rest of today, then whole days: each as its weight and its place on the line.
    parts = [(1 - today, count)] + [(1.0, count + d) for d in range(1, (end - midnight).days)]
    ahead = sum(weight * max(0.0, mean + slope * (x - middle)) for weight, x in parts)
    weight = sum(w for w, _ in parts)
    lever = sum(w * (x - middle) for w, x in parts)
    own = sum(w * w for w, _ in parts)
    return ahead, scatter * math.sqrt(own + weight**2 / count + lever**2 / square)

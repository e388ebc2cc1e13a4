"""The schedule's floor: at least so many replicas at this moment.

Knows hours, days and time zones; it does not know what is asked. Pure: the moment is an argument.

Hours are of the clock on the wall of their zone. Where the clock is put forward, hours that begin within the
hour that is left out begin when it is over; where it is put back, an hour that comes twice counts both times.
"""

from collections.abc import Sequence
from datetime import datetime, time
from zoneinfo import ZoneInfo

from rayplat.core.project.serving import DAYS, Hours


def floor(schedule: Sequence[Hours], now: datetime) -> int:
    """The most that any of the hours asks for; 0 outside of them.

    Args:
        now: with its time zone, whichever that is.
    """
    return max((hours.least for hours in schedule if within(hours, now)), default=0)


def within(hours: Hours, now: datetime) -> bool:
    """Whether a moment is within hours: from `begin` on, before `end`."""
    here = now.astimezone(ZoneInfo(hours.zone))
    begin, end = time.fromisoformat(hours.begin), time.fromisoformat(hours.end)
    clock, today = here.time(), DAYS[here.weekday()]
    if begin < end:
        return today in hours.days and begin <= clock < end
    before = DAYS[here.weekday() - 1]
    return (today in hours.days and clock >= begin) or (before in hours.days and clock < end)

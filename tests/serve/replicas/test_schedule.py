from datetime import UTC, datetime, timedelta

import pytest

from rayplat.core.project.serving import DAYS, Hours
from rayplat.serve.replicas.schedule import floor, within

LUNCH = Hours("11:30", "13:30", 4, days=DAYS[:5], zone="Europe/Berlin")
NIGHT = Hours("22:00", "02:00", 2, days=("fri",), zone="America/New_York")


def _at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "least"),
    [
        ("2026-01-13T10:29", 0),  # winter: UTC+1
        ("2026-01-13T10:30", 4),
        ("2026-01-13T12:29", 4),
        ("2026-01-13T12:30", 0),
        ("2026-07-14T09:29", 0),  # summer: UTC+2
        ("2026-07-14T09:30", 4),
        ("2026-07-14T11:30", 0),
        ("2026-07-18T10:00", 0),  # a Saturday
        ("2026-07-18T01:59", 0),
        ("2026-07-18T02:00", 2),  # Friday, 22:00 in New York
        ("2026-07-18T05:59", 2),  # Saturday, 01:59 there: the hours of Friday
        ("2026-07-18T06:00", 0),
        ("2026-07-19T02:30", 0),  # Saturday, 22:30 there
    ],
)
def test_hours_follow_the_wall_clock_of_their_zone(at, least):
    assert floor((LUNCH, NIGHT), _at(at)) == least


def test_the_larger_of_two_hours_holds():
    assert floor((LUNCH, Hours("00:00", "23:59", 7)), _at("2026-01-13T11:00")) == 7
    assert floor((), _at("2026-01-13T11:00")) == 0


@pytest.mark.parametrize(
    ("begin", "end", "first", "minutes"),
    [
        # On 29 March 2026 02:00 becomes 03:00 in Berlin (01:00 UTC).
        ("02:15", "04:00", "2026-03-29T01:00", 60),
        ("01:30", "02:30", "2026-03-29T00:30", 30),
        # On 25 October 2026 03:00 becomes 02:00 (01:00 UTC).
        ("02:00", "03:00", "2026-10-25T00:00", 120),
        ("01:30", "03:30", "2026-10-24T23:30", 180),
    ],
)
def test_on_the_days_when_clocks_change_hours_are_those_of_the_wall(begin, end, first, minutes):
    hours = Hours(begin, end, 1, zone="Europe/Berlin")
    start = _at(first).replace(hour=0, minute=0) - timedelta(hours=1)
    start += timedelta(days=1) if first.endswith("23:30") else timedelta()
    inside = [m for m in range(6 * 60) if within(hours, start + timedelta(minutes=m))]
    assert start + timedelta(minutes=inside[0]) == _at(first)
    assert len(inside) == minutes

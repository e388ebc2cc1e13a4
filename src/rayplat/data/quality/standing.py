"""The standing of a table: whether it is fresh, and whether it grows as it did the day before.

Knows times and counts in, a finding out; the clock is an argument. It does not know a table.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from rayplat.core.project.check import Fresh, Volume
from rayplat.data.lakehouse.snapshot import SnapshotInfo
from rayplat.data.quality.findings import Finding
from rayplat.data.quality.rounds import rows_of

_DAY = timedelta(days=1)


def stale(check: Fresh, newest: datetime | None, now: datetime) -> Finding | None:
    """What is to be told if the newest event is too old; a table without an event is not judged."""
    if newest is None or now - newest <= check.within:
        return None
    told = f"the newest event is of {newest:%Y-%m-%d %H:%M:%S} UTC, {_length(now - newest)} ago, "
    return Finding("fresh", f"{told}and at most {_length(check.within)} are allowed")


def unusual_volume(
    check: Volume, history: Sequence[SnapshotInfo], arriving: int, now: datetime
) -> Finding | None:
    """What is to be told if the last 24 hours brought too few or too many rows beside the 24 before.

    Args:
        history: the table's snapshots, oldest first.
        arriving: rows that are about to be committed.
        now: the end of the last 24 hours.
    """
    brought = [(now - snapshot.at, rows_of(snapshot)) for snapshot in history]
    if not any(age >= _DAY for age, _ in brought):
        return None
    last = arriving + sum(rows for age, rows in brought if age < _DAY)
    before = sum(rows for age, rows in brought if _DAY <= age < 2 * _DAY)
    if check.low * before <= last <= check.high * before:
        return None
    return Finding(
        "volume",
        f"{last:,} rows in the last 24 hours and {before:,} in the 24 before; "
        f"allowed are {check.low:g} to {check.high:g} times as many",
    )


def _length(length: timedelta) -> str:
    return str(timedelta(seconds=round(length.total_seconds())))

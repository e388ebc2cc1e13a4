"""Lateness: the watermark of a table, and which rows are behind it by more than is allowed.

Knows event times and the declared policy; it does not know files or commits.

The watermark of a table is the greatest event time that its committed snapshots have seen, but never
later than the clock: one record with a wrong date must not make all others late. A batch is judged by
what was committed when its reading began and by the earlier batches of its partition, which are committed
before it. Both are at most what will be committed when the batch is: no row in time is called late.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl

from rayplat.core.project.table import Table

MAX_EVENT_TIME = "rayplat.max_event_time"
"""The snapshot property that keeps the watermark, ISO 8601."""

_ACCEPT = "accept"


def late_rows(frame: pl.DataFrame, table: Table, watermark: datetime | None) -> pl.Series | None:
    """Which rows are late; None where none can be, or where late rows are accepted all the same.

    Args:
        frame: rows with the table's event time.
        watermark: UTC; None before the first row.
    """
    if table.late is None or table.late.policy == _ACCEPT or table.event_time is None or watermark is None:
        return None
    late = frame[table.event_time] < watermark - table.late.allowed
    return late.fill_null(value=False) if late.any() else None


def late_reason(table: Table, watermark: datetime | None) -> str:
    """Why a late row is in the quarantine."""
    allowed = table.late.allowed if table.late else None
    return f"{table.event_time} is more than {allowed} behind the watermark {watermark:%Y-%m-%dT%H:%M:%S.%fZ}"


def greatest_event_time(frame: pl.DataFrame, table: Table) -> datetime | None:
    """The greatest event time of a frame, UTC; None where there is none."""
    if table.event_time is None or not frame.height:
        return None
    found = frame[table.event_time].max()
    return found if isinstance(found, datetime) else None


def advanced(watermark: datetime | None, seen: datetime | None, now: datetime) -> datetime | None:
    """The watermark after rows up to `seen`; it never goes back, and never beyond the clock."""
    if seen is None:
        return watermark
    bounded = min(seen, now)
    return bounded if watermark is None else max(watermark, bounded)


def committed_watermark(properties: Mapping[str, str]) -> datetime | None:
    """The watermark that a snapshot's properties hold."""
    text = properties.get(MAX_EVENT_TIME)
    return datetime.fromisoformat(text).astimezone(UTC) if text else None

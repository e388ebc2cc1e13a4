"""Points in time: how a column of times becomes UTC microseconds, and which columns are refused.

Knows dtypes and time zones; it does not know what the times mean.
"""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from rayplat.core.errors import UserError

Int64s = npt.NDArray[np.int64]

UTC_MICROS = pl.Datetime("us", "UTC")
BEGINNING = np.iinfo(np.int64).min
"""The time of what was always so: rows of a table without times."""


def instants(frame: pl.DataFrame, column: str, of: str) -> pl.Series:
    """The column as UTC times in microseconds; nulls stay.

    A zone other than UTC is converted: the instant is the same. Milliseconds are widened.

    Args:
        of: what the frame is, for the message, such as `the asking rows`.

    Raises:
        UserError: the column is missing, is no time, has no zone, or is finer than a microsecond.
    """
    if column not in frame.columns:
        raise UserError(f"{of} have no column {column!r}", f"give one of: {', '.join(frame.columns)}")
    series = frame.get_column(column)
    dtype = series.dtype
    if dtype == UTC_MICROS:
        return series
    if not isinstance(dtype, pl.Datetime):
        raise UserError(f"column {column!r} of {of} is {dtype}, not a time", "give UTC timestamps")
    if dtype.time_zone is None:
        raise UserError(
            f"column {column!r} of {of} has times without a time zone",
            "say which one they are in: .dt.replace_time_zone('UTC')",
        )
    if dtype.time_unit == "ns":
        raise UserError(
            f"column {column!r} of {of} is in nanoseconds; rayplat keeps microseconds",
            "round them knowingly: .dt.cast_time_unit('us')",
        )
    return series.cast(UTC_MICROS)


def asked_at(rows: pl.DataFrame, column: str) -> Int64s:
    """The times at which rows ask, in microseconds since 1970, one a row.

    Raises:
        UserError: see `instants`; or a time is missing.
    """
    series = instants(rows, column, "the asking rows")
    missing = series.null_count()
    if missing:
        raise UserError(f"{missing} of {len(series)} asking rows have no {column!r}", "drop or fill them")
    return series.to_physical().to_numpy()


def utc(at: datetime) -> datetime:
    """A moment in UTC.

    Raises:
        UserError: the moment has no time zone.
    """
    if at.tzinfo is None:
        raise UserError(
            f"the time {at.isoformat()} has no time zone", "give one, such as datetime(..., tzinfo=UTC)"
        )
    return at.astimezone(UTC)


def to_micros(at: datetime) -> int:
    """A moment with a zone, in microseconds since 1970."""
    gap = utc(at) - datetime(1970, 1, 1, tzinfo=UTC)
    return (gap.days * 86_400 + gap.seconds) * 1_000_000 + gap.microseconds

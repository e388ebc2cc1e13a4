"""Pruning: row filters by which a scan skips the files and row groups that cannot matter.

Knows how the bounds of a frame's columns are written as a filter; it does not know a table. A filter
may let more rows through than wanted, and never fewer.
"""

import math
import re
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

import polars as pl

_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_.:/+@ -]*")
_WHOLE = 1e15  # up to here each whole number is a float of its own


def bounds(frame: pl.DataFrame, columns: Iterable[str]) -> str | None:
    """The filter of the rows whose columns lie between the least and the greatest value of the frame's.

    Returns:
        The filter's text; None where no column bounds anything (booleans, bytes, no value at all).
    """
    terms = [term for name in columns for term in _bound(frame[name])]
    return " and ".join(terms) if terms else None


def after(column: str, at: datetime) -> str:
    """The filter of the rows whose time is `at` or later."""
    return f"\"{column}\" >= '{at.isoformat()}'"


def _bound(series: pl.Series) -> list[str]:
    values = series.drop_nulls()
    if values.is_empty() or isinstance(series.dtype, pl.Boolean | pl.Binary):
        return []
    if series.dtype.is_float() and not values.is_between(-_WHOLE, _WHOLE).all():
        return []  # NaN and the infinities are outside any bounds
    low, high = _least(values.min()), _greatest(values.max())
    return [
        *([f'"{series.name}" >= {low}'] if low is not None else []),
        *([f'"{series.name}" <= {high}'] if high is not None else []),
    ]


def _least(value: Any) -> str | None:
    """A literal at or below `value`; None where there is none."""
    if isinstance(value, str):
        # A text in a filter cannot hold every character: its plain beginning sorts before it.
        plain = _PLAIN_TEXT.match(value)
        return f"'{plain.group()}'" if plain and plain.group() else None
    return str(math.floor(value)) if isinstance(value, float) else _literal(value)


def _greatest(value: Any) -> str | None:
    """A literal at or above `value`; None where there is none."""
    if isinstance(value, str):
        return f"'{value}'" if _PLAIN_TEXT.fullmatch(value) else None
    return str(math.ceil(value)) if isinstance(value, float) else _literal(value)


def _literal(value: Any) -> str:
    return f"'{value.isoformat()}'" if isinstance(value, date) else str(value)

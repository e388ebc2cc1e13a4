"""Features of some instances as the network's input, and as they are recorded.

Knows the order and the form of both; it does not know where features come from. A few rows are assembled
without a query of Polars, which costs about the same for one row as for a thousand; the result is the same to
the bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

FEW = 16
"""So many rows are assembled by hand."""

_MOST_EXACT = 2**53
_PLAIN = frozenset(
    {
        pl.Float32,
        pl.Float64,
        pl.Boolean,
        *(pl.Int8, pl.Int16, pl.Int32, pl.Int64),
        *(pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
    }
)
Array = np.ndarray[Any, Any]


def assembled(frame: pl.DataFrame, inputs: Sequence[str]) -> tuple[list[dict[str, Any]], Array]:
    """The inputs' values by row, and as float32 of shape [rows, inputs], NaN where missing.

    Columns of the array lie together in memory.
    """
    return (by_hand(frame, inputs) if frame.height <= FEW else None) or by_query(frame, inputs)


def by_query(frame: pl.DataFrame, inputs: Sequence[str]) -> tuple[list[dict[str, Any]], Array]:
    """See `assembled`; for any number of rows, and any type that has a number."""
    return frame.select(inputs).to_dicts(), matrix(frame, inputs)


def matrix(frame: pl.DataFrame, inputs: Sequence[str]) -> Array:
    """The inputs as float32 of shape [rows, inputs], NaN where missing."""
    numbers = frame.select(pl.col(inputs).cast(pl.Float32).fill_null(float("nan")))
    return numbers.to_numpy(writable=True)


def by_hand(frame: pl.DataFrame, inputs: Sequence[str]) -> tuple[list[dict[str, Any]], Array] | None:
    """See `assembled`; None where a value's float32 is not that of its float64."""
    columns: list[list[Any]] = []
    for name in inputs:
        column = frame.get_column(name)
        if column.dtype not in _PLAIN:
            return None
        values = column.to_list()
        if column.dtype.is_integer() and any(v is not None and abs(v) > _MOST_EXACT for v in values):
            return None  # it would be rounded twice
        columns.append(values)
    with np.errstate(over="ignore"):
        x = np.array([[np.nan if v is None else v for v in values] for values in columns], np.float64).astype(
            np.float32
        )
    rows = [dict(zip(inputs, row, strict=True)) for row in zip(*columns, strict=True)]
    return rows, x.T

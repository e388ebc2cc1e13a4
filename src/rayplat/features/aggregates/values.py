"""The values that an aggregate takes in and gives out: their families, their types, their one form.

Knows which Polars types aggregate, and to what; it does not know how.

Zero has one sign and NaN one pattern here, so that equal values are equal bits. Times are their physical
integers inside an aggregate.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from rayplat.core.errors import UserError

Value = float | int | str
"""A value inside an aggregate: a float, an integer (booleans are 0 and 1, times physical) or a text."""

_ARITHMETIC = frozenset({"sum", "mean", "stddev", "quantile"})
_LARGEST = 2**63


def family(dtype: pl.DataType) -> str:
    """How values of a type aggregate: as `float`, `int`, `bool`, `time` or `text`.

    Raises:
        UserError: values of the type do not aggregate.
    """
    if dtype.is_float() or dtype == pl.Null:
        return "float"
    if dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128):
        return "int"
    if dtype == pl.Boolean:
        return "bool"
    if dtype.is_temporal():
        return "time"
    if dtype == pl.String:
        return "text"
    raise UserError(
        f"a window aggregate has values of type {dtype}",
        "cast them: to Float64 or Int64 for numbers, to String for categories",
    )


def output_dtype(kind: str, dtype: pl.DataType) -> pl.DataType:
    """The type of an aggregate's result.

    Args:
        kind: one of `core.project.window.KINDS`.
        dtype: of the values.

    Raises:
        UserError: the aggregate has no meaning for values of the type.
    """
    kin = family(dtype)
    if kind in ("count", "nunique"):
        return pl.Int64()
    if kind in _ARITHMETIC and kin in ("text", "time"):
        raise UserError(
            f"a window aggregate {kind!r} has values of type {dtype}",
            "give numbers, or use count, min or max",
        )
    if kind in ("mean", "stddev", "quantile"):
        return pl.Float64()
    if kind == "sum":
        return pl.Float64() if kin == "float" else pl.Int64()
    return pl.Float64() if dtype == pl.Null else dtype


def normal(values: pl.Series) -> pl.Series:
    """Values without nulls in their one form: Float64 without negative zeros, Int64, or String.

    Raises:
        UserError: values of the type do not aggregate.
    """
    kin = family(values.dtype)
    if kin == "float":
        # By NumPy: Polars takes adding zero for nothing to do, and would leave negative zeros.
        wide = values.cast(pl.Float64).to_numpy() + 0.0
        wide[np.isnan(wide)] = math.nan
        return pl.Series(values.name, wide)
    if kin == "text":
        return values
    return values.to_physical().cast(pl.Int64)


def values_of(values: pl.Series) -> list[Value]:
    """Values without nulls in their one form, as `Accumulator.update` takes them.

    Raises:
        UserError: values of the type do not aggregate.
    """
    return normal(values).to_list()


def bits(values: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The 64 bits of each number."""
    return np.ascontiguousarray(values).view(np.uint64)


def fitting(total: int) -> int:
    """A sum of integers, if it is one of 64 bits.

    Raises:
        UserError: it is not.
    """
    if not -_LARGEST <= total < _LARGEST:
        raise UserError(
            f"a window's sum of integers is {total}", "cast the value to Float64: 64 bits hold less"
        )
    return total


def column(name: str, kind: str, dtype: pl.DataType, results: Sequence[Value | None]) -> pl.Series:
    """Results of `Accumulator.result` as a column of the type that the aggregate gives."""
    out = output_dtype(kind, dtype)
    if out.is_temporal():
        return pl.Series(name, results, pl.Int64).cast(_physical(out)).cast(out)
    if out == pl.Boolean:
        return pl.Series(name, results, pl.Int64).cast(pl.Boolean)
    return pl.Series(name, results, out, strict=False)


def _physical(dtype: pl.DataType) -> pl.DataType:
    return pl.Series([], dtype=dtype).to_physical().dtype

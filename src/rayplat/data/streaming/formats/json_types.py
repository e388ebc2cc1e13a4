"""Types that JSON has not: 32-bit numbers, dates and bytes, from what its numbers and texts say.

Knows one value and a whole column of each, and that both give the same; it does not know records. An `int32`
is a whole number in its range; a `float32` any number that does not overflow it, rounded; a `date` is text
such as 2013-01-31; a `binary` is base64 text (RFC 4648, with padding);
a `vector(N)` is an array of numbers and nulls, each a `float32`, of any length: how many there are is a
promise of the row (see `rayplat.data.quality.rows`).
"""

import base64
import binascii
import math
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from rayplat.core.project.column_types import vector_length

_READ_AS: dict[str, pl.DataType] = {
    "int32": pl.Int64(),
    "float32": pl.Float64(),
    "date": pl.String(),
    "binary": pl.String(),
}
_VECTOR = pl.List(pl.Float64)

_INT32 = range(-(2**31), 2**31)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CANONICAL = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
_FIRST_DAY = date(1, 1, 1)


def read_as(kind: str) -> pl.DataType | None:
    """What a column of a type that JSON has not is parsed as before it is `narrowed`; None for the others."""
    return _VECTOR if vector_length(kind) else _READ_AS.get(kind)


def narrowed(series: pl.Series, kind: str) -> pl.Series:
    """A parsed column in its declared type.

    Raises:
        pl.exceptions.PolarsError, pa.ArrowInvalid: a value may not be what is declared.
    """
    if kind == "int32":
        return series.cast(pl.Int32, strict=True)
    if vector_length(kind):
        inside = series.explode()
        if inside.len() and (inside.cast(pl.Float32).is_infinite() & inside.is_finite()).any():
            raise pa.ArrowInvalid("an element overflows 32 bits")
        return series.cast(pl.List(pl.Float32))
    if kind == "float32":
        short = series.cast(pl.Float32)
        if (short.is_infinite() & series.is_finite()).any():
            raise pa.ArrowInvalid("a number overflows 32 bits")
        return short
    if kind == "date":
        days = pl.Series(series.name, pc.cast(series.to_arrow().cast(pa.string()), pa.date32()))
        if days.len() and not (days.drop_nulls() >= _FIRST_DAY).all():
            raise pa.ArrowInvalid("a date is before the year 1")
        return days
    if not series.str.contains(_CANONICAL).drop_nulls().all():
        raise pa.ArrowInvalid("a text may be no base64")
    return series.str.decode("base64", strict=True)


def fitting(value: Any, kind: str) -> Any:
    """One JSON value as the declared type; None where it is none."""
    if vector_length(kind):
        return _vector(value)
    if isinstance(value, bool) or not isinstance(value, _TAKEN[kind]):
        return None
    return _FITTING[kind](value)


def _int32(value: int) -> int | None:
    return value if value in _INT32 else None


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value) if _DAY.fullmatch(value) else None
    except ValueError:
        return None


def _bytes(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _float32(value: float) -> float | None:
    try:
        with np.errstate(over="ignore"):
            short = float(np.float32(value))
    except OverflowError:
        return None
    return None if math.isinf(short) and not math.isinf(float(value)) else short


def _vector(value: Any) -> list[float | None] | None:
    """An array of numbers; a null in it stays, and is a fault of the row."""
    if not isinstance(value, list):
        return None
    fitted = [None if one is None else fitting(one, "float32") for one in value]
    good = all((one is None) == (fit is None) for one, fit in zip(value, fitted, strict=True))
    return fitted if good else None


_TAKEN: dict[str, Any] = {"int32": int, "float32": int | float, "date": str, "binary": str}
_FITTING: dict[str, Callable[[Any], Any]] = {
    "int32": _int32,
    "float32": _float32,
    "date": _day,
    "binary": _bytes,
}

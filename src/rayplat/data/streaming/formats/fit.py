"""Fitting: one value as it was decoded, in the type of its column, or the reason why it does not fit.

Knows the rules of all formats but JSON and raw bytes; it does not know records, batches or schemas.

The rules: null fits every column (whether it is allowed is a check of the row, as with JSON). An `int64`
or `int32` takes whole numbers in its range; a `float64` or `float32` any number that does not overflow;
a `vector(N)` an array of such numbers or nulls (their number is a check of the row);
a `string` text, a UUID, or an exact decimal as its digits; a `binary` bytes; a `date` a date or
`YYYY-MM-DD`; a `timestamp` a time with a zone, or ISO-8601 text with one. A whole number is a time or a
date only where the schema tells its unit: this is the *encoding* of a column, see `ENCODINGS`.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from rayplat.core.project.column_types import vector_length
from rayplat.core.project.table import Column

ENCODINGS = {
    "s": "whole seconds since 1970",
    "ms": "whole milliseconds since 1970",
    "us": "whole microseconds since 1970",
    "ns": "whole nanoseconds since 1970, of which the last three digits are dropped",
    "days": "whole days since 1970",
    "base64": "bytes as base64 text",
    "json": "what it is; a nested value becomes JSON text",
    "decimal(N)": "a decimal with N digits behind the point: base64 text of its unscaled big-endian bytes",
}
"""How a value has to be read where its own type does not say it."""

TIME_ARROW = pa.timestamp("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = (date.min - _EPOCH.date()).days
_LAST_DAY = (date.max - _EPOCH.date()).days
DAYS = (_FIRST_DAY, _LAST_DAY)
"""The first and the last day that a `date` may be, days since 1970: the years 1 to 9999."""
TIMES = (_FIRST_DAY * 86_400_000_000, (_LAST_DAY + 1) * 86_400_000_000 - 1)
"""The first and the last `timestamp`, microseconds since 1970: the years 1 to 9999."""
_INTEGERS = {"int32": range(-(2**31), 2**31), "int64": range(-(2**63), 2**63)}
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class MisfitError(Exception):
    """Why one value does not fit its column."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """Stands for a value of which is known already that it cannot be read, and why."""

    reason: str


def fit(name: str, column: Column, value: Any, encoding: str = "") -> Any:
    """One value in the physical form of its column.

    Args:
        name: the column's name, for the reason.
        value: what a decoder made of the field; None: null.
        encoding: how it has to be read, one of `ENCODINGS`; empty: as it is.

    Returns:
        str, bytes, bool, int or float; a timestamp is whole microseconds, a date whole days since 1970.

    Raises:
        MisfitError: it does not fit; the message names the column, the type and the value.
    """
    if value is None:
        return None
    if isinstance(value, Misfit):
        raise MisfitError(f"{name}: {value.reason}")
    try:
        if vector_length(column.type):
            fitted = _vector(value)
        else:
            value = _read(value, encoding)
            fitted = _FITTERS[column.type](value, column.type, encoding)
    except (TypeError, ValueError, ArithmeticError, pa.ArrowInvalid) as error:
        raise MisfitError(f"{name} is no {column.type}: {shown(value)}") from error
    if fitted is None:
        raise MisfitError(f"{name} should be {column.type} and is {_kind(value)}: {shown(value)}")
    return fitted


def micros(value: int, unit: str) -> int:
    """Whole units since 1970 as whole microseconds, rounded down."""
    return value * 1_000_000 // _PER_SECOND[unit]


def shown(value: Any) -> str:
    """A value for people, cut to 80 characters."""
    if isinstance(value, bytes):
        text = f"0x{value[:40].hex()}"
    else:
        text = value if isinstance(value, str) else str(value)
        text = f'"{text}"' if isinstance(value, str) else text
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read(value: Any, encoding: str) -> Any:
    if encoding == "json" and isinstance(value, dict | list):
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    if encoding == "base64" and isinstance(value, str):
        return base64.b64decode(value, validate=True)
    if encoding.startswith("decimal(") and isinstance(value, str):
        unscaled = int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)
        return Decimal(unscaled).scaleb(-int(encoding[8:-1]))
    return value


def _plain(value: Any) -> Any:
    """What JSON cannot hold, inside a nested value."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _text(value: Any, _kind: str, _encoding: str) -> str | None:
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value) if isinstance(value, str | UUID) else None


def _integer(value: Any, kind: str, _encoding: str) -> int | None:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and value in _INTEGERS[kind] else None


def _number(value: Any, kind: str, _encoding: str) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = float(value)
    if kind == "float32":
        with np.errstate(over="ignore"):
            short = float(np.float32(number))
        return None if np.isinf(short) and not np.isinf(number) else short
    return number


def _vector(value: Any) -> list[float | None] | None:
    """An array of numbers; a null in it stays, and is a fault of the row."""
    if not isinstance(value, list | tuple):
        return None
    fitted = [None if one is None else _number(one, "float32", "") for one in value]
    good = all((one is None) == (fit is None) for one, fit in zip(value, fitted, strict=True))
    return fitted if good else None


def _boolean(value: Any, _kind: str, _encoding: str) -> bool | None:
    return value if isinstance(value, bool) else None


def _bytes(value: Any, _kind: str, _encoding: str) -> bytes | None:
    return value if isinstance(value, bytes) else None


def _time(value: Any, _kind: str, encoding: str) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and encoding in _PER_SECOND:
        ticks: int = micros(value, encoding)
    elif isinstance(value, datetime) and value.tzinfo is not None:
        ticks = (value - _EPOCH) // timedelta(microseconds=1)
    elif isinstance(value, str):
        ticks = pc.cast(pa.scalar(value, pa.string()), TIME_ARROW).value
    else:
        return None
    return ticks if TIMES[0] <= ticks <= TIMES[1] else None


def _date(value: Any, _kind: str, encoding: str) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and encoding == "days":
        days: int = value
    elif isinstance(value, date) and not isinstance(value, datetime):
        days = (value - _EPOCH.date()).days
    elif isinstance(value, str):
        days = pc.cast(pa.scalar(value, pa.string()), pa.date32()).value
    else:
        return None
    return days if DAYS[0] <= days <= DAYS[1] else None


_FITTERS: dict[str, Callable[[Any, str, str], Any]] = {
    "string": _text,
    "int32": _integer,
    "int64": _integer,
    "float32": _number,
    "float64": _number,
    "bool": _boolean,
    "binary": _bytes,
    "timestamp": _time,
    "date": _date,
}


def _kind(value: Any) -> str:
    if isinstance(value, datetime):
        return "a time without a zone" if value.tzinfo is None else "a time"
    names = {bool: "a boolean", int: "a number", float: "a number", Decimal: "a decimal", str: "text"}
    names |= {bytes: "bytes", list: "an array", date: "a date"}
    return names.get(type(value), "an object")

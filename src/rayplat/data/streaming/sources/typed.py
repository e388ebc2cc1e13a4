"""Typed rows: columns as a source gives them, in the declared types, with a reason for each row that fails.

Knows how databases, Parquet and CSV write values; it does not know where they came from.

A time without a zone, from a database or Parquet, is UTC; CSV must name its zone. Text (CSV) becomes a
number, a boolean (`true`, `false`), an ISO-8601 date or time, bytes (base64) or a vector (a JSON
array), as it is declared; an empty field is null.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from rayplat.core.project.column_types import vector_length
from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.fit import TIMES, Misfit, shown
from rayplat.data.streaming.formats.rows import Group, assemble

_TARGETS = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "binary": pa.binary(),
}
_VECTOR = pa.large_list(pa.float32())
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "false": False}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def typed(
    values: Mapping[str, Sequence[Any]], rows: int, columns: Mapping[str, Column]
) -> tuple[pl.DataFrame, dict[int, str]]:
    """Rows of Python values in the declared types.

    Args:
        values: by column, a value a row; a declared column that is not there is null.

    Returns:
        A frame of `rows` rows with the declared columns, and for each row that does not fit its index and
        the reason; such a row is null.
    """
    plain = {
        name: [_plain(value, columns[name].type) for value in given]
        for name, given in values.items()
        if name in columns
    }
    decoded = assemble([Group(range(rows), plain)], columns, {})
    return _spread(decoded.frame, decoded.rows, rows), dict(decoded.bad)


def typed_arrow(batch: pa.RecordBatch, columns: Mapping[str, Column]) -> tuple[pl.DataFrame, dict[int, str]]:
    """Rows of Arrow in the declared types; as `typed`, without Python values where Arrow can cast."""
    cast: dict[str, pa.Array] = {}
    for name, column in columns.items():
        if name not in batch.schema.names:
            cast[name] = pa.nulls(batch.num_rows, _target(column.type))
            continue
        array = _cast(batch.column(name), column.type)
        if array is None:
            given = {n: _values(batch.column(n)) for n in batch.schema.names if n in columns}
            return typed(given, batch.num_rows, columns)
        cast[name] = array
    return pl.DataFrame(pa.table(cast)), {}


def typed_text(
    values: Mapping[str, Sequence[str | None]], rows: int, columns: Mapping[str, Column]
) -> tuple[pl.DataFrame, dict[int, str]]:
    """Rows of text in the declared types; as `typed`."""
    read = {
        name: [None if not text else _read(text, columns[name].type) for text in texts]
        for name, texts in values.items()
        if name in columns
    }
    decoded = assemble([Group(range(rows), read)], columns, {})
    return _spread(decoded.frame, decoded.rows, rows), dict(decoded.bad)


def _spread(frame: pl.DataFrame, rows: Sequence[int], height: int) -> pl.DataFrame:
    """The frame with a null row wherever `rows`, the place of each of its rows, names none."""
    if frame.height == height:
        return frame
    places: list[int | None] = [None] * height
    for at, row in enumerate(rows):
        places[row] = at
    return frame.select(pl.all().gather(pl.lit(pl.Series(places, dtype=pl.UInt32))))


def _plain(value: Any, kind: str) -> Any:
    """A database's or Parquet's value as the rules of `fit` know it."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if kind == "string" and isinstance(value, dict | list):
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return value


def _read(text: str, kind: str) -> Any:
    """A field of CSV as a value; what cannot be read says so."""
    if kind in ("int32", "int64"):
        return int(text) if _WHOLE.fullmatch(text) else Misfit(f"no {kind}: {shown(text)}")
    if kind in ("float32", "float64"):
        return float(text) if _NUMBER.fullmatch(text) else Misfit(f"no {kind}: {shown(text)}")
    if kind == "bool":
        return _BOOLEANS.get(text.lower(), Misfit(f"neither true nor false: {shown(text)}"))
    if kind == "binary":
        return _base64(text)
    return _array(text) if vector_length(kind) else text


def _base64(text: str) -> bytes | Misfit:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return Misfit(f"no base64: {shown(text)}")


def _array(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return Misfit(f"no JSON array: {shown(text)}")


def _cast(array: pa.Array, kind: str) -> pa.Array | None:
    """All values at once; None where one of them has to be looked at alone."""
    target, given = _target(kind), array.type
    if pa.types.is_dictionary(given):
        array = array.dictionary_decode()
        given = array.type
    if not _is_kind(kind, given) and not pa.types.is_null(given):
        return None
    try:
        # Parquet does not promise that its text is UTF-8, and nobody behind this would look.
        array.validate(full=True)
        if kind != "timestamp" or pa.types.is_null(given):
            return _held(array, array.cast(target))
        if given.tz is None:
            array = pc.assume_timezone(array, "UTC")
        times = array.cast(target, safe=given.unit != "ns")
        ticks = pc.min_max(times.cast(pa.int64()))
        low, high = ticks["min"].as_py(), ticks["max"].as_py()
        return times if low is None or (low >= TIMES[0] and high <= TIMES[1]) else None
    except pa.ArrowInvalid:
        return None


def _target(kind: str) -> pa.DataType:
    return _VECTOR if vector_length(kind) else _TARGETS[kind]


def _is_kind(kind: str, given: pa.DataType) -> bool:
    if vector_length(kind) is None:
        return bool(_KINDS[kind](given))
    listed = pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given)
    return bool(listed and pa.types.is_floating(given.value_type))


def _held(array: pa.Array, cast: pa.Array) -> pa.Array | None:
    """What was cast; None if an element of a vector overflows on the way."""
    if cast.type != _VECTOR or pa.types.is_null(array.type) or array.type.value_type != pa.float64():
        return cast
    overflow = pc.and_(pc.is_inf(cast.flatten()), pc.is_finite(array.flatten()))
    return None if pc.any(overflow).as_py() else cast


def _values(array: pa.Array) -> list[Any]:
    """The values of Arrow as Python's; what Python cannot hold says so."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_timestamp(array.type):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[array.type.unit]
        return [_time(ticks, per_second) for ticks in array.cast(pa.int64()).to_pylist()]
    if _KINDS["string"](array.type):
        return [_text(value) for value in array.cast(pa.large_binary()).to_pylist()]
    return list(array.to_pylist())


def _time(ticks: int | None, per_second: int) -> Any:
    if ticks is None:
        return None
    micros = ticks * 10**6 // per_second
    if not TIMES[0] <= micros <= TIMES[1]:
        return Misfit("outside the years 1 to 9999")
    return _EPOCH + timedelta(microseconds=micros)


def _text(value: bytes | None) -> Any:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        return Misfit(f"not UTF-8: {error.reason} at byte {error.start}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


_KINDS = {
    "string": _is_text,
    "int32": pa.types.is_integer,
    "int64": pa.types.is_integer,
    "float32": pa.types.is_float32,
    "float64": pa.types.is_floating,
    "bool": pa.types.is_boolean,
    "date": pa.types.is_date,
    "timestamp": pa.types.is_timestamp,
    "binary": _is_bytes,
}

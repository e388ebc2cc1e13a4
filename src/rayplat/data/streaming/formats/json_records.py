"""Decoding: JSON records to a typed frame with the declared columns, and a reason for each that is none.

Knows JSON and the declared types; it does not know offsets, checks or tables on disk.

A whole batch is parsed at once where it can be, and record by record where one of its records is bad.
Both ways give the same verdict and the same values for every record, so that a record is judged the
same whatever stands beside it. The rules: a record is one JSON object in UTF-8; a column that it lacks
is null, a name that is not declared is left out; where a name is given twice the first counts; a
`string` is a JSON string, a `bool` true or false, an `int64` a number without fraction or exponent, a
`float64` any number; a `timestamp` is an ISO-8601 string with a zone, or an integer of microseconds;
for the other types see `json_types`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from rayplat.core.project.column_types import polars_type
from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.json_types import fitting, narrowed, read_as
from rayplat.data.streaming.payloads import Payloads

_TIMESTAMP = pl.Datetime("us", "UTC")
_ONE_BY_ONE = 300
_PARTS = 8
_USUAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_INT64 = range(-(2**63), 2**63)
_LINE_BREAK = 0x0A
# Escapes that need the slow and careful parser: surrogates, of which Polars reads a lone one as a zero
# byte, and ASCII letters in a name, which would hide it from the search for names below.
_ESCAPES = re.compile(rb'\\u[dD]|"[^"]*\\u00[2-7][^"]*"\s*:')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_ARROW_TIMESTAMP = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch.

    Attributes:
        frame: one row for each record that could be decoded, with the declared columns.
        rows: for each row of the frame, the index of its record in the batch.
        bad: for each record that could not be decoded, its index and the reason.
        ignored: the indices of records that say nothing new, such as tombstones: neither row nor error.
    """

    frame: pl.DataFrame
    rows: Sequence[int]
    bad: Mapping[int, str]
    ignored: Sequence[int] = ()


def decode(values: Sequence[bytes | None], columns: Mapping[str, Column]) -> Decoded:
    """Decode a batch of JSON records; see the module for the rules. Order is kept."""
    frame = _parse_whole(values, columns)
    if frame is not None:
        return Decoded(frame, range(len(values)), {})
    if len(values) <= _ONE_BY_ONE:
        return _parse_each(values, columns)
    # A bad record is hunted down: its part of the batch is parted again, the other parts are parsed whole.
    step = -(-len(values) // _PARTS)
    frames: list[pl.DataFrame] = []
    rows: list[int] = []
    bad: dict[int, str] = {}
    for begin in range(0, len(values), step):
        part = decode(values[begin : begin + step], columns)
        frames.append(part.frame)
        rows += [begin + row for row in part.rows]
        bad.update({begin + row: reason for row, reason in part.bad.items()})
    return Decoded(pl.concat(frames), rows, bad)


def empty(columns: Mapping[str, Column]) -> pl.DataFrame:
    """A frame of the declared columns without rows."""
    return pl.DataFrame(schema={name: polars_type(column.type) for name, column in columns.items()})


def _parse_whole(values: Sequence[bytes | None], columns: Mapping[str, Column]) -> pl.DataFrame | None:
    """Parse all records in one call; None if any of them needs to be looked at alone."""
    blob = _lines(values) if values and columns else None
    if blob is None:
        return None
    schema = {name: read_as(column.type) or polars_type(column.type) for name, column in columns.items()}
    narrow = {name: column.type for name, column in columns.items() if read_as(column.type)}
    times = [name for name, column in columns.items() if column.type == "timestamp"]
    schema.update(_time_dtypes(values[0], times))
    try:
        if _text_from_other(blob, [name for name, dtype in schema.items() if dtype == pl.String()]):
            return None
        frame = pl.read_ndjson(blob, schema=schema)
        frame = frame.with_columns(_to_time(frame[name]) for name in times)
        frame = frame.with_columns(narrowed(frame[name], kind) for name, kind in narrow.items())
    except (pl.exceptions.PolarsError, pa.ArrowInvalid):
        return None
    # Polars skips blank lines: then rows and records are not one to one.
    return frame if frame.height == len(values) else None


def _lines(values: Sequence[bytes | None]) -> bytes | None:
    """The records, a line each; None if a line would not be just one record that Polars reads as we do."""
    if isinstance(values, Payloads):
        blob = values.lines() if values.complete else None
    else:
        blob = b"\n".join(values) if all(values) else None  # type: ignore[arg-type]  # no value is None
    # A line break inside a record would shift all rows behind it.
    if blob is None or np.count_nonzero(np.frombuffer(blob, np.uint8) == _LINE_BREAK) != len(values) - 1:
        return None
    # A search for one byte is ten times as fast as one for two.
    return None if b"\\" in blob and b"\\u" in blob and _ESCAPES.search(blob) else blob


def _time_dtypes(first: bytes | None, times: Sequence[str]) -> dict[str, pl.DataType]:
    """Whether each time column comes as text or as a number, going by the first record."""
    try:
        record = orjson.loads(first or b"")
    except orjson.JSONDecodeError:
        record = None
    record = record if isinstance(record, dict) else {}
    return {name: pl.Int64() if isinstance(record.get(name), int) else pl.String() for name in times}


def _text_from_other(blob: bytes, names: Sequence[str]) -> bool:
    """Whether a text column may hold a number, boolean or object, which Polars would read as text.

    One scan of the batch: `"name":` followed by neither a quote nor the n of null. A nested object
    with such a name is a false alarm, which costs time only.
    """
    if not names:
        return False
    anyone = "|".join(re.escape(json.dumps(name, ensure_ascii=False)[1:-1]) for name in names)
    pattern = rf'"(?:{anyone})"\s*:\s*[^"n\s]'
    return bool(pc.match_substring_regex(pa.array([blob], pa.string()), pattern)[0].as_py())


def _to_time(series: pl.Series) -> pl.Series:
    """Texts or microseconds as times.

    Raises:
        pa.ArrowInvalid: a text is no time with a zone, or a time is outside the years 1 to 9999.
    """
    if series.dtype == pl.Int64:
        times = series.cast(_TIMESTAMP)
    else:
        cast = pc.cast(series.to_arrow().cast(pa.string()), _ARROW_TIMESTAMP)
        times = pl.Series(series.name, cast, dtype=_TIMESTAMP)
    ticks = times.to_physical()
    if not ticks.drop_nulls().is_between(_FIRST, _LAST).all():
        raise pa.ArrowInvalid("a time is outside the years 1 to 9999")
    return times


def _parse_each(values: Sequence[bytes | None], columns: Mapping[str, Column]) -> Decoded:
    """Parse record by record."""
    rows: list[tuple[Any, ...]] = []
    indices: list[int] = []
    bad: dict[int, str] = {}
    for index, value in enumerate(values):
        try:
            record = _parse_one(value)
            rows.append(tuple(_convert(name, column, record.get(name)) for name, column in columns.items()))
            indices.append(index)
        except _BadRecordError as error:
            bad[index] = str(error)
    schema = {name: polars_type(column.type) for name, column in columns.items()}
    return Decoded(pl.DataFrame(rows, schema=schema, orient="row"), indices, bad)


class _BadRecordError(Exception):
    """Why one record is not a row."""


def _parse_one(value: bytes | None) -> dict[str, Any]:
    if not value:
        raise _BadRecordError("the record has no value")
    try:
        # Strict where the json module is lenient: NaN, lone surrogates, numbers that overflow.
        record = orjson.loads(value)
        # The json module alone can say that of two equal names the first counts.
        record = json.loads(value, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    except orjson.JSONDecodeError as error:
        raise _BadRecordError(f"not JSON: {error}") from error
    except RecursionError:
        record = orjson.loads(value)
    if not isinstance(record, dict):
        raise _BadRecordError(f"not a JSON object but {_kind(record)}")
    return record


def _convert(name: str, column: Column, value: Any) -> Any:
    if value is None:
        return None
    kind = column.type
    whole = isinstance(value, int) and not isinstance(value, bool)
    if (kind == "string" and isinstance(value, str)) or (kind == "bool" and isinstance(value, bool)):
        return value
    if kind == "float64" and (whole or isinstance(value, float)):
        return float(value)
    if kind == "int64" and whole and value in _INT64:
        return value
    if kind == "timestamp":
        return _time(name, value, whole=whole)
    fits = fitting(value, kind) if read_as(kind) else None
    if fits is not None:
        return fits
    raise _BadRecordError(f"{name} should be {kind} and is {_kind(value)}: {_shown(value)}")


def _time(name: str, value: Any, *, whole: bool) -> datetime:
    try:
        if whole:
            return _EPOCH + timedelta(microseconds=value)
        if isinstance(value, str) and _USUAL_TIME.fullmatch(value):
            return datetime.fromisoformat(value)
        if isinstance(value, str):
            time: datetime = pc.cast(pa.scalar(value), _ARROW_TIMESTAMP).as_py()
            return time
    except (pa.ArrowInvalid, OverflowError, ValueError) as error:
        raise _BadRecordError(f"{name} is no time with a zone: {_shown(value)}") from error
    raise _BadRecordError(f"{name} should be a time and is {_kind(value)}: {_shown(value)}")


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "an array"}
    return "null" if value is None else names.get(type(value), "an object")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."

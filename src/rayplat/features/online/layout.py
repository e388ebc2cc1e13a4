"""How a row of values becomes bytes and values again: fixed places, so that one value is read by itself.

Knows types and bytes; it does not know what the values are.

A row of k columns, little-endian: null bits (bit i of byte i // 8: value i is null), filled up to 8 bytes;
then 8 bytes a value: a double, a signed integer (booleans 0 or 1, dates in days, times in their unit,
mostly microseconds), or for texts and lists the start (4 bytes, counted from the row's first byte) and
the length in bytes (4) of what stands behind the places: UTF-8, or doubles or integers of 8 bytes each.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from rayplat.core.errors import IntegrityError, UserError

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a naive column has naive times
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = struct.Struct("<II")


class Layout:
    """The places of named, typed values.

    Args:
        schema: the columns.

    Raises:
        UserError: values of a type cannot be kept.
    """

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self.schema = dict(schema)
        self.kinds = [_kind(name, dtype) for name, dtype in self.schema.items()]
        self._words = (len(self.kinds) + 63) // 64
        self.width = 8 * (self._words + len(self.kinds))
        codes = "".join("d" if kind == "float" else "q" for kind in self.kinds)
        self._struct = struct.Struct(f"<{self._words}Q{codes}")
        self._reads = [_read_as(dtype) for dtype in self.schema.values()]
        self._plain = all(read is None for read in self._reads)

    def encode(self, frame: pl.DataFrame) -> list[bytes]:
        """Each row of a frame with these columns as bytes."""
        count, words = frame.height, self._words
        if not self.kinds:
            return [b""] * count
        places = np.zeros((count, words + len(self.kinds)), dtype=np.int64)
        nulls = np.zeros((count, words * 64), dtype=np.uint8)
        behind: list[list[bytes]] = []
        for i, (series, kind) in enumerate(zip(frame.iter_columns(), self.kinds, strict=True)):
            if series.null_count():
                nulls[:, i] = series.is_null().to_numpy()
            if kind in ("float", "int"):
                places[:, words + i] = _numbers(series, kind)
            else:
                texts = _bodies(series, kind)
                lengths = np.fromiter(map(len, texts), np.int64, count)
                starts = self.width + sum((_lengths(b) for b in behind), np.zeros(count, np.int64))
                places[:, words + i] = starts | lengths << 32
                behind.append(texts)
        places[:, :words] = np.packbits(nulls, axis=1, bitorder="little").view(np.int64)
        data, width = places.tobytes(), self.width
        rows = [data[at : at + width] for at in range(0, count * width, width)]
        if behind:
            return [b"".join(parts) for parts in zip(rows, *behind, strict=True)]
        return rows

    def values(self, data: bytes, start: int = 0) -> list[Any]:
        """The values of one row, as Python values.

        Args:
            data: bytes in which the row stands.
            start: where it begins.
        """
        found = self._struct.unpack_from(data, start)
        words = self._words
        values: list[Any] = list(found[words:])
        if not self._plain:
            for i, read in enumerate(self._reads):
                if read is not None:
                    values[i] = read(data, start, values[i])
        for word in range(words):
            bits = found[word]
            while bits:
                low = bits & -bits
                values[64 * word + low.bit_length() - 1] = None
                bits ^= low
        return values

    def numbers(self, rows: Sequence[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The places of many rows as integers, and where values are null; one line a row."""
        width, words = self.width, self._words
        try:
            joined = b"".join([row[:width] for row in rows])
            places = np.frombuffer(joined, np.int64).reshape(len(rows), words + len(self.kinds))
        except ValueError as error:
            raise IntegrityError(
                f"a row in the online store is not of {width} bytes", "remove the store and materialize again"
            ) from error
        bits = np.ascontiguousarray(places[:, :words]).view(np.uint8)
        nulls = np.unpackbits(bits.reshape(len(rows), 8 * words), axis=1, bitorder="little").astype(bool)
        return places[:, words:], nulls[:, : len(self.kinds)]

    def frame(self, rows: Sequence[bytes | None]) -> pl.DataFrame:
        """Rows as a frame; null in every column where there is no row."""
        held = [row for row in rows if row is not None]
        places, nulls = self.numbers(held)
        columns = []
        for i, (name, dtype) in enumerate(self.schema.items()):
            series = self._column(dtype, i, held, places[:, i])
            if nulls[:, i].any():
                series = series.set(pl.Series(nulls[:, i]), None)
            columns.append(series.alias(name))
        found = pl.DataFrame(columns) if columns else pl.DataFrame(height=len(held))
        if len(held) == len(rows):
            return found
        at, where = 0, []
        for row in rows:
            where.append(None if row is None else at)
            at += row is not None
        return found.select(pl.all().gather(pl.Series(where, dtype=pl.UInt32)))

    def _column(
        self, dtype: pl.DataType, i: int, rows: Sequence[bytes], places: npt.NDArray[np.int64]
    ) -> pl.Series:
        kind, places = self.kinds[i], np.ascontiguousarray(places)
        if dtype == pl.Null:
            return pl.Series([None] * len(rows), dtype=pl.Null)
        if kind == "float":
            return pl.Series(places.view(np.float64)).cast(dtype)
        if kind == "int":
            if dtype == pl.UInt64:
                return pl.Series(places.view(np.uint64))
            whole = pl.Series(places)
            return (whole != 0) if dtype == pl.Boolean else whole.cast(_physical(dtype)).cast(dtype)
        read = self._reads[i]
        assert read is not None
        return pl.Series(
            [read(row, 0, place) for row, place in zip(rows, places.tolist(), strict=True)], dtype=dtype
        )


def _kind(name: str, dtype: pl.DataType) -> str:
    if dtype.is_float() or dtype == pl.Null:
        return "float"
    whole = dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)
    if whole or dtype == pl.Boolean or dtype.is_temporal():
        return "int"
    if dtype in (pl.String, pl.Categorical) or isinstance(dtype, pl.Enum):
        return "text"
    if dtype == pl.Binary:
        return "binary"
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else None
    if isinstance(inner, pl.DataType) and inner.is_numeric():
        return "floats" if inner.is_float() else "ints"
    raise UserError(
        f"{name!r} is of type {dtype}, which the online store does not keep",
        "make it a number, a boolean, a time, a text or a list of numbers",
    )


def _physical(dtype: pl.DataType) -> pl.DataType:
    return pl.Series([], dtype=dtype).to_physical().dtype


def _numbers(series: pl.Series, kind: str) -> npt.NDArray[np.int64]:
    if kind == "float":
        # A null becomes NaN on the way; its bit tells that it is none.
        return series.cast(pl.Float64).to_numpy().view(np.int64)
    if series.null_count():
        series = series.to_physical().fill_null(0)
    if series.dtype == pl.UInt64:
        return series.to_numpy().view(np.int64)
    return series.to_physical().cast(pl.Int64).to_numpy()


def _bodies(series: pl.Series, kind: str) -> list[bytes]:
    if kind == "text":
        return [b"" if text is None else text.encode() for text in series.cast(pl.String).to_list()]
    if kind == "binary":
        return [b"" if body is None else body for body in series.to_list()]
    dtype = "<f8" if kind == "floats" else "<i8"
    return [b"" if values is None else np.asarray(values, dtype).tobytes() for values in series.to_list()]


def _lengths(bodies: Sequence[bytes]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, bodies), np.int64, len(bodies))


_Read = Callable[[bytes, int, int], Any]


def _read_as(dtype: pl.DataType) -> _Read | None:
    """How a value is read whose place is not the value itself."""
    kind = _kind("", dtype)
    if kind == "binary":
        return _body
    if kind == "text":
        return lambda data, start, value: _body(data, start, value).decode()
    if kind in ("floats", "ints"):
        code = "<f8" if kind == "floats" else "<i8"
        return lambda data, start, value: np.frombuffer(_body(data, start, value), code).tolist()
    whole = _whole(dtype)
    return None if whole is None else lambda _data, _start, value: whole(value)


def _whole(dtype: pl.DataType) -> Callable[[int], Any] | None:
    """What an integer stands for; None: for itself."""
    if dtype == pl.Boolean:
        return bool
    if isinstance(dtype, pl.Datetime):
        zone = None if dtype.time_zone is None else ZoneInfo(dtype.time_zone)
        scale = {"ns": 1000, "us": 1, "ms": 1}[dtype.time_unit]
        unit = "milliseconds" if dtype.time_unit == "ms" else "microseconds"
        if zone is None:
            return lambda value: _EPOCH + timedelta(**{unit: value // scale})
        return lambda value: (_EPOCH_UTC + timedelta(**{unit: value // scale})).astimezone(zone)
    if dtype.is_temporal():
        return lambda value: pl.Series([value]).cast(_physical(dtype)).cast(dtype).item()
    if dtype == pl.UInt64:
        return lambda value: value & (1 << 64) - 1
    return None


def _body(data: bytes, start: int, place: int) -> bytes:
    at, length = place & 0xFFFFFFFF, place >> 32
    return data[start + at : start + at + length]

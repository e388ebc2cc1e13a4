"""Arrow columns as NumPy arrays, without a copy where their memory allows it.

Knows Arrow's layout of fixed-width values; it does not know what the values mean.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.features.instants import Int64s

Bools = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

_WIDTHS: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.int16),
    4: np.dtype(np.int32),
    8: np.dtype(np.int64),
}


def frozen(values: Values) -> Values:
    """The same array, not to be written into: kernels are compiled once for arrays that are only read."""
    values.flags.writeable = False
    return values


def fixed(kind: pa.DataType) -> bool:
    """Whether values have 1, 2, 4 or 8 bytes each (booleans, which are unpacked to bytes, among them)."""
    if pa.types.is_boolean(kind):
        return True
    simple = pa.types.is_primitive(kind) and not pa.types.is_dictionary(kind)
    return bool(simple and kind.bit_width // 8 in _WIDTHS)


def bits(column: pa.Array) -> Values:
    """The values of a fixed-width column as unsigned bytes or signed integers; what stands for null is any.

    Floats give their bits.
    """
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    kind = _WIDTHS[column.type.bit_width // 8]
    held = column.buffers()[1]
    if held is None:
        return frozen(np.zeros(len(column), kind))
    return np.frombuffer(held, kind, len(column), column.offset * kind.itemsize)


def present(column: pa.Array) -> Bools | None:
    """Where the column is not null; None where it never is."""
    if column.null_count == 0:
        return None
    return np.asarray(column.is_valid())


def bitmap(column: pa.Array) -> Values | None:
    """Arrow's bits for where the column is not null, from its memory's begin on; None where it never is."""
    held = column.buffers()[0]
    return None if held is None or column.null_count == 0 else np.frombuffer(held, np.uint8)


def integers(column: pa.Array) -> Int64s:
    """Integers, dates, times, booleans and floats as int64; equal values give equal integers."""
    kind = column.type
    if pa.types.is_floating(kind):
        wide = np.asarray(column.cast(pa.float64()).fill_null(0.0)) + 0.0  # turns -0.0 into 0.0
        return frozen(np.where(np.isnan(wide), np.nan, wide).view(np.int64))
    if pa.types.is_uint64(kind):
        return bits(column)
    if pa.types.is_unsigned_integer(kind):
        column = column.cast(pa.int64())
    return frozen(bits(column).astype(np.int64, copy=False))


def micros(column: pa.Array, name: str, of: str) -> Int64s:
    """A column of times in microseconds since 1970 (UTC); what stands for null is any.

    Args:
        column: the times.
        name: the column's name; `of`: what has it, such as `the rows of 'raw.events'`.

    Raises:
        UserError: it is no time, has no zone, or is finer than a microsecond.
    """
    kind = column.type
    if not pa.types.is_timestamp(kind):
        raise UserError(f"column {name!r} of {of} is {kind}, not a time", "give UTC timestamps")
    if kind.tz is None:
        raise UserError(
            f"column {name!r} of {of} has times without a time zone",
            "say which one they are in: .dt.replace_time_zone('UTC')",
        )
    if kind.unit == "ns":
        raise UserError(
            f"column {name!r} of {of} is in nanoseconds; rayplat keeps microseconds",
            "round them knowingly: .dt.cast_time_unit('us')",
        )
    return bits(column if kind.unit == "us" else column.cast(pa.timestamp("us", kind.tz)))


def column_of(values: Values, kind: pa.DataType, valid: Bools | None) -> pa.Array:
    """What `bits` gave, as an Arrow column again.

    Args:
        values: bytes or integers of the width of `kind`.
        kind: the type of the column.
        valid: where it is not null; None: nowhere null.
    """
    mask = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    if pa.types.is_boolean(kind):
        held = pa.py_buffer(np.packbits(values.astype(bool), bitorder="little"))
    else:
        held = pa.py_buffer(values)
    return pa.Array.from_buffers(kind, len(values), [mask, held])

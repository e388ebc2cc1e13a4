"""Iceberg's partition transforms over whole Arrow columns.

Knows the arithmetic of the Iceberg specification (appendix B for the hash); it does not know tables.
pyiceberg has it value by value only (over columns it needs `pyiceberg-core`, which is not installed).
"""

from collections.abc import Callable
from typing import Any, cast

import mmh3
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)

from rayplat.core.errors import UserError

Longs = npt.NDArray[np.int64]

_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000


def transformed(transform: Transform[Any, Any], column: pa.ChunkedArray) -> pa.Array:
    """The partition values of a column, null where the value is null.

    Args:
        transform: identity, void, bucket, truncate, year, month, day or hour.
        column: values of a type that the transform takes.

    Returns:
        As long as the column, in the form in which manifests keep values: times and dates are integers
        (microseconds, days, months or years since 1970).

    Raises:
        UserError: the transform is not one that is known here.
    """
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # no chunk at all stays chunked
        values = pa.array([], column.type)
    for kind, apply in _APPLY.items():
        if isinstance(transform, kind):
            return apply(transform, values)
    raise UserError(
        f"the partition transform {transform} is not one that rayplat writes",
        "partition by identity, year, month, day, hour, bucket or truncate",
    )


def _longs(values: pa.Array) -> Longs:
    """Integers, dates or timestamps as int64; 0 where null."""
    kind = pa.int32() if pa.types.is_date32(values.type) else pa.int64()
    whole = values if pa.types.is_integer(values.type) else values.view(kind)
    filled = whole.cast(pa.int64()).fill_null(0)
    return cast("Longs", filled.to_numpy(zero_copy_only=False))


def _masked(numbers: npt.NDArray[Any], kind: pa.DataType, like: pa.Array) -> pa.Array:
    mask = like.is_null().to_numpy(zero_copy_only=False) if like.null_count else None
    return pa.array(numbers, kind, mask=mask)


def _identity(_: Any, values: pa.Array) -> pa.Array:
    if pa.types.is_date32(values.type):
        return values.view(pa.int32())
    return values.view(pa.int64()) if pa.types.is_timestamp(values.type) else values


def _void(_: Any, values: pa.Array) -> pa.Array:
    return pa.nulls(len(values), values.type)


def _since_1970(unit: str, microseconds: int) -> Callable[[Any, pa.Array], pa.Array]:
    def apply(_: Any, values: pa.Array) -> pa.Array:
        longs = _longs(values)
        if unit in ("D", "h"):
            whole = longs if pa.types.is_date32(values.type) else np.floor_divide(longs, microseconds)
        else:
            days = longs if pa.types.is_date32(values.type) else np.floor_divide(longs, _DAY_US)
            whole = days.astype("datetime64[D]").astype(f"datetime64[{unit}]").astype(np.int64)
        return _masked(whole.astype(np.int32), pa.int32(), values)

    return apply


def _truncate(transform: TruncateTransform[Any], values: pa.Array) -> pa.Array:
    width = int(transform.width)
    if pa.types.is_integer(values.type):
        longs = _longs(values)
        return _masked(longs - np.mod(longs, width), values.type, values)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return pc.binary_slice(values, 0, width)
    return pc.utf8_slice_codeunits(values, 0, width)


def _bucket(transform: BucketTransform[Any], values: pa.Array) -> pa.Array:
    count = int(transform.num_buckets)
    if pa.types.is_integer(values.type) or pa.types.is_temporal(values.type):
        hashed = _murmur3_of_longs(_longs(values))
    else:
        # Each distinct value is hashed once: keys repeat, and the hash of bytes is a call a value.
        encoded = values.dictionary_encode()
        distinct = encoded.dictionary.cast(pa.large_binary()).to_pylist()
        hashes = np.array([mmh3.hash(value) for value in distinct] or [0], np.int64)
        hashed = hashes[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    return _masked(((hashed & 0x7FFFFFFF) % count).astype(np.int32), pa.int32(), values)


def _murmur3_of_longs(longs: Longs) -> Longs:
    """Murmur3 (x86, 32 bits, seed 0) of each integer as 8 bytes, little-endian."""
    words = longs.view(np.uint64)
    state = np.zeros(len(longs), np.uint32)
    for shift in (0, 32):
        word = ((words >> np.uint64(shift)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        word = _rotated(word * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        state = _rotated(state ^ word, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    state ^= np.uint32(8)
    state = (state ^ (state >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    state = (state ^ (state >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (state ^ (state >> np.uint32(16))).astype(np.int64)


def _rotated(words: npt.NDArray[np.uint32], by: int) -> npt.NDArray[np.uint32]:
    return (words << np.uint32(by)) | (words >> np.uint32(32 - by))


_APPLY: dict[type, Callable[[Any, pa.Array], pa.Array]] = {
    IdentityTransform: _identity,
    VoidTransform: _void,
    BucketTransform: _bucket,
    TruncateTransform: _truncate,
    YearTransform: _since_1970("Y", 0),
    MonthTransform: _since_1970("M", 0),
    DayTransform: _since_1970("D", _DAY_US),
    HourTransform: _since_1970("h", _HOUR_US),
}

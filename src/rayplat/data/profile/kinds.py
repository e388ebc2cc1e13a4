"""Kinds of columns: how the values of an Arrow array become int64 keys, and keys become values again.

Knows types; it does not know what is sketched of the keys.
"""

from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from rayplat.data.profile.kernels import Keys, Numbers
from rayplat.data.profile.texts import measured

Family = Literal["float", "integer", "time", "flag", "text", "bytes", "decimal", "list", "other"]

_LISTED = pa.struct([("hash", pa.int64()), ("length", pa.int64())])
"""What is looked at of a list of floats: its elements would not fit into a sketch."""


class Kind:
    """How a column of a type is read.

    Attributes:
        type: what its arrays are brought to; times in microseconds, small numbers at their own width.
        family: which way they are read.
    """

    def __init__(self, given: pa.DataType) -> None:
        self.type, self.family = _kind(given)

    def __reduce__(self) -> tuple[type["Kind"], tuple[pa.DataType]]:
        return type(self), (self.type,)

    @property
    def floating(self) -> bool:
        """Whether a key is the bits of a float."""
        return self.family == "float"

    @property
    def numeric(self) -> bool:
        """Whether the values lie on a line: numbers and times."""
        return self.family in ("float", "integer", "time", "decimal")

    @property
    def keyed(self) -> bool:
        """Whether a key is the value; else it is a hash of it."""
        return self.family in ("float", "integer", "time", "flag")

    def array(self, values: pa.Array) -> pa.Array:
        """The values in this kind's type, without nulls."""
        if values.null_count:
            values = values.drop_null()
        if self.family == "list":
            return values if values.type == _LISTED else _listed(values)
        # Times lose what is below a microsecond, as everywhere in the platform.
        return values if values.type == self.type else values.cast(self.type, safe=False)

    def keys(self, values: pa.Array) -> tuple[Keys, Keys | None]:
        """The key of each value of such an array, and of texts, bytes and lists its length."""
        if self.family == "list":
            return values.field("hash").to_numpy(), values.field("length").to_numpy()
        if self.family in ("text", "bytes"):
            return _text_keys(values, characters=self.family == "text")
        if not self.keyed:
            return pl.Series(pl.from_arrow(values)).hash().to_numpy().view(np.int64), None
        if self.family == "time":
            values = values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
        if self.family == "flag":
            values = values.cast(pa.int8())
        whole = values.to_numpy(zero_copy_only=True)
        wide = whole.astype(np.float64 if self.floating else np.int64, copy=False)
        return wide.view(np.int64), None

    def numbers(self, keys: Keys) -> Numbers:
        """The place on the line of each key of a keyed kind."""
        return keys.view(np.float64) if self.floating else keys.astype(np.float64)

    def place(self, value: Any) -> float:
        """The place of a value on its line: itself, or the days or microseconds of a time."""
        if self.family != "time":
            return float(value)
        whole = pa.int32() if self.type.bit_width == 32 else pa.int64()
        return float(pa.array([value], self.type).view(whole)[0].as_py())

    def value(self, place: float) -> Any:
        """The value nearest to a place of the line: a time, or the number itself."""
        return self.values(np.array([round(place)]))[0] if self.family == "time" else place

    def values(self, keys: Keys) -> list[Any]:
        """The value of each key of a keyed kind."""
        if self.floating:
            found: list[Any] = keys.view(np.float64).tolist()
            return found
        if self.family == "flag":
            return [bool(key) for key in keys.tolist()]
        narrow = pa.array(keys.astype(np.int32) if self.type.bit_width == 32 else keys)
        return list(narrow.view(self.type).to_pylist()) if self.family == "time" else keys.tolist()


def _kind(given: pa.DataType) -> tuple[pa.DataType, Family]:
    kinds = pa.types
    found: tuple[pa.DataType, Family] = (given, "other")
    if kinds.is_dictionary(given):
        found = _kind(given.value_type)
    elif kinds.is_floating(given):
        found = (given if given.bit_width > 16 else pa.float32(), "float")
    elif kinds.is_integer(given):
        found = (given, "integer")
    elif kinds.is_boolean(given):
        found = (given, "flag")
    elif kinds.is_temporal(given):
        found = _time(given)
    elif kinds.is_string(given) or kinds.is_large_string(given) or kinds.is_string_view(given):
        found = (pa.large_string(), "text")
    elif given == _LISTED or _is_vector(given):
        found = (_LISTED, "list")
    elif kinds.is_decimal(given):
        found = (given, "decimal")
    elif any(check(given) for check in (kinds.is_binary, kinds.is_large_binary, kinds.is_fixed_size_binary)):
        found = (pa.large_binary(), "bytes")
    return found


def _is_vector(given: pa.DataType) -> bool:
    listed = pa.types.is_list(given) or pa.types.is_large_list(given)
    return bool(listed and pa.types.is_floating(given.value_type))


def _time(given: pa.DataType) -> tuple[pa.DataType, Family]:
    if pa.types.is_timestamp(given):
        return pa.timestamp("us", given.tz), "time"
    if pa.types.is_duration(given):
        return pa.duration("us"), "time"
    if pa.types.is_date(given):
        return pa.date32(), "time"
    return (pa.time64("us"), "time") if pa.types.is_time(given) else (given, "other")


def _text_keys(values: pa.Array, *, characters: bool) -> tuple[Keys, Keys]:
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    keys, lengths = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
    measured(ends, content, characters, keys, lengths)
    return keys, lengths


def _listed(values: pa.Array) -> pa.Array:
    hashes = pl.Series(pl.from_arrow(values)).hash().to_numpy().view(np.int64)
    lengths = pc.list_value_length(values).cast(pa.int64())
    return pa.StructArray.from_arrays([pa.array(hashes), lengths], fields=list(_LISTED))


def floats(values: pa.Array) -> Numbers:
    """Decimals as floats."""
    found: Numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found

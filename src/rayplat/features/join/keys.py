"""Entities as numbers: the asking side decides which there are, the source's rows are looked up.

Knows key columns of every kind, alone and together; it does not know questions or times. Two keys are the
same entity when their values are equal, whatever the width of the integer; a key with a null is none.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayplat.features.instants import Int64s
from rayplat.features.join import arrays, hashing

Codes = npt.NDArray[np.int32]

_DENSE = 4
_FEW = 1 << 20


class Keys(Protocol):
    """Numbered entities.

    Attributes:
        asked: the number of each asking row; -1: a null.
        count: all numbers are below it.
        span: least and greatest value, where the key is one column of integers, dates or times.
    """

    asked: Codes
    count: int
    span: tuple[int, int] | None

    def codes(self, columns: Sequence[pa.Array]) -> Codes:
        """The numbers of rows, from their key columns; -1 for nulls and for what nobody asks about."""


def keys_of(columns: Sequence[pa.Array]) -> Keys:
    """Number the entities of asking rows.

    Args:
        columns: the key columns, of the source's types.
    """
    if len(columns) > 1:
        return _Pair(columns)
    return _Numbers(columns[0]) if _integral(columns[0].type) else _Texts(columns[0])


def _integral(kind: pa.DataType) -> bool:
    return arrays.fixed(kind) and not pa.types.is_decimal(kind)


def _nulls(column: pa.Array) -> arrays.Bools:
    present = arrays.present(column)
    return np.zeros(len(column), dtype=bool) if present is None else ~present


def _table(rows: int) -> Codes:
    return np.full(1 << max(int(2 * rows).bit_length(), 4), -1, np.int32)


class _Numbers:
    """One column of fixed width."""

    def __init__(self, column: pa.Array) -> None:
        values, null = arrays.integers(column), _nulls(column)
        told = values[~null] if null.any() else values
        low, high = (int(told.min()), int(told.max())) if len(told) else (0, -1)
        self.span = None if pa.types.is_floating(column.type) else (low, high)
        self._low, self._width = low, high - low + 1
        self._dense = self._width <= max(_DENSE * len(values), _FEW)
        self.asked = np.empty(len(values), np.int32)
        if self._dense:
            self.count = self._width
            hashing.shifted(values, low, self._width, self.asked)
            self.asked[null] = -1
            return
        self._slots, self._kept = _table(len(values)), np.empty(len(values), np.int64)
        self.count = hashing.number(values, null, self._slots, self._kept, self.asked)

    def codes(self, columns: Sequence[pa.Array]) -> Codes:
        """See `Keys`."""
        values = arrays.integers(columns[0])
        found = np.empty(len(values), np.int32)
        if self._dense:
            hashing.shifted(values, self._low, self._width, found)
        else:
            hashing.look_up(values, self._slots, self._kept, found)
        return _without_nulls(found, columns[0])


def _without_nulls(codes: Codes, column: pa.Array) -> Codes:
    present = arrays.present(column)
    if present is not None:
        codes[~present] = -1
    return codes


class _Texts:
    """One column of texts or bytes; anything else is taken by its text."""

    span: tuple[int, int] | None = None

    def __init__(self, column: pa.Array) -> None:
        ends, self._data = _bytes(column)
        self._slots, self._kept = _table(len(column)), np.empty(2 * len(column), np.int64)
        self.asked = np.empty(len(column), np.int32)
        self.count = hashing.number_texts(
            ends, self._data, _nulls(column), self._slots, self._kept, self._data, self.asked, True
        )

    def codes(self, columns: Sequence[pa.Array]) -> Codes:
        """See `Keys`."""
        column = columns[0]
        if isinstance(column, pa.DictionaryArray):
            coded = np.append(self.codes([column.dictionary]), np.int32(-1))
            found: Codes = coded[np.asarray(column.indices.cast(pa.int64()).fill_null(-1))]
            return found
        ends, data = _bytes(column)
        found = np.empty(len(column), np.int32)
        hashing.number_texts(ends, data, _nulls(column), self._slots, self._kept, self._data, found, False)
        return found


def _bytes(column: pa.Array) -> tuple[Int64s, arrays.Values]:
    kind = column.type
    if not (pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)):
        binary = pa.types.is_string(kind) or pa.types.is_binary(kind)
        column = column.cast(pa.large_binary() if binary else pa.large_string())
    _, ends, data = column.buffers()
    begins = (
        np.zeros(1, np.int64)
        if ends is None
        else np.frombuffer(ends, np.int64, len(column) + 1, column.offset * 8)
    )
    return begins, np.frombuffer(data, np.uint8) if data else np.zeros(1, np.uint8)


class _Pair:
    """Several columns: the numbers of the first ones together with the numbers of the last."""

    span: tuple[int, int] | None = None

    def __init__(self, columns: Sequence[pa.Array]) -> None:
        self._first, self._last = keys_of(columns[:-1]), keys_of(columns[-1:])
        pairs = self._joined(self._first.asked, self._last.asked)
        self._slots, self._kept = _table(len(pairs)), np.empty(len(pairs), np.int64)
        self.asked = np.empty(len(pairs), np.int32)
        self.count = hashing.number(pairs, pairs < 0, self._slots, self._kept, self.asked)

    def _joined(self, first: Codes, last: Codes) -> Int64s:
        # Both numbers are below 2^31, so a pair of them fits.
        joined = first.astype(np.int64) * max(self._last.count, 1) + last
        joined[(first < 0) | (last < 0)] = -1
        return arrays.frozen(joined)

    def codes(self, columns: Sequence[pa.Array]) -> Codes:
        """See `Keys`."""
        pairs = self._joined(self._first.codes(columns[:-1]), self._last.codes(columns[-1:]))
        found = np.empty(len(pairs), np.int32)
        hashing.look_up(pairs, self._slots, self._kept, found)
        return found

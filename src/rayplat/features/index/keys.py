"""Entity keys of an index as numbers: a range of integers, a hash table of integers, or any distinct keys.

Knows how keys of asking rows meet the keys of the source; it does not know what is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rayplat.features.index.kernel import fill_table, frozen, probe
from rayplat.features.instants import Int64s
from rayplat.features.questions import keys_as

_SPARSE = 4
"""Integers count as a range while it has at most so many numbers a row."""
_CODE = "\0code"


@dataclass(frozen=True, slots=True)
class Keys:
    """The entities of an index; `kind` says which of the others count.

    Attributes:
        kind: `range`: the code is the integer itself; `hashed`: integers in a hash table; `named`: any types.
        schema: the entity columns of the source and their types.
        first: the least code.
        count: how many codes there are from there on.
        table: the hash table; `numbers`: the codes of its places, -1 where free.
        named: the distinct keys, numbered by position.
    """

    kind: str
    schema: Mapping[str, pl.DataType]
    first: int
    count: int
    table: Int64s
    numbers: npt.NDArray[np.int32]
    named: pl.DataFrame

    def codes(self, rows: pl.DataFrame, asks: tuple[str, ...]) -> Int64s:
        """The code of each asking row; outside of the index's codes where it never saw the entity.

        Args:
            asks: the columns of `rows` that name the entity, in the order of `schema`.

        Raises:
            UserError: a column is missing, or of another kind than in the source.
        """
        asking = keys_as(self.schema, rows, asks)
        if self.kind == "named":
            return _numbered(asking, self.named)
        keys = asking.to_series()
        if keys.null_count():
            null = keys.is_null().to_numpy()
            return np.where(null, self.first - 1, self._integers(keys.to_physical().fill_null(0)))
        return self._integers(keys.to_physical())

    def _integers(self, keys: pl.Series) -> Int64s:
        numbers = keys.cast(pl.Int64).to_numpy()
        if self.kind == "range":
            return numbers
        code = np.empty(len(numbers), np.int64)
        probe(frozen(self.table), frozen(self.numbers), frozen(numbers), code)
        return code


def number(source: pl.DataFrame, entity: tuple[str, ...]) -> tuple[Keys, Int64s]:
    """Number the entities of a source's rows from 0; -1 where a part of the key is null.

    Returns:
        the keys, and the number of each row. Codes that `Keys.codes` gives are greater by `Keys.first`.
    """
    keys = source.select(entity)
    schema = dict(keys.schema)
    only = keys.to_series(0)
    if len(entity) > 1 or not _integral(only.dtype):
        named = keys.drop_nulls().unique(maintain_order=True)
        code = _numbered(keys, named)
        return Keys("named", schema, 0, named.height, _NONE, _FREE, named), code
    null = only.is_null().to_numpy()
    numbers = only.to_physical().cast(pl.Int64).fill_null(0).to_numpy()
    seen = numbers[~null] if null.any() else numbers
    first, last = (int(seen.min()), int(seen.max())) if len(seen) else (0, -1)
    if last - first < _SPARSE * len(seen) + 1024 and first > np.iinfo(np.int64).min:
        ranged = Keys("range", schema, first, last - first + 1, _NONE, _FREE, pl.DataFrame())
        return ranged, np.where(null, -1, numbers - first)
    distinct = np.unique(seen)
    places = 1 << (2 * len(distinct)).bit_length()
    table, free = np.zeros(places, np.int64), np.full(places, -1, np.int32)
    fill_table(table, free, distinct)
    code = np.empty(len(numbers), np.int64)
    probe(frozen(table), frozen(free), frozen(numbers), code)
    hashed = Keys("hashed", schema, 0, len(distinct), table, free, pl.DataFrame())
    return hashed, np.where(null, -1, code)


_NONE = np.zeros(0, np.int64)
_FREE = np.zeros(0, np.int32)


def _integral(dtype: pl.DataType) -> bool:
    return (dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128)) or isinstance(
        dtype, pl.Date | pl.Datetime
    )


def _numbered(keys: pl.DataFrame, named: pl.DataFrame) -> Int64s:
    """The position of each key among the distinct ones; -1: not there, or a part of it is null."""
    numbers = named.with_row_index(_CODE)
    found = keys.join(numbers, on=keys.columns, how="left", maintain_order="left").get_column(_CODE)
    return found.cast(pl.Int64).fill_null(-1).to_numpy()

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
    if len(entity) > 1 or not _integral(keys.to_series(0).dtype):
        return _named(keys, keys.drop_nulls().unique(maintain_order=True))
    numbers, null = _integers(keys)
    seen = numbers[~null] if null.any() else numbers
    made = _of_integers(dict(keys.schema), seen, len(seen))
    return made, _codes(made, numbers, null)


@dataclass(frozen=True, slots=True)
class Together:
    """Entities of old rows and of more rows.

    Attributes:
        keys: all of them; `code`: the numbers of the additional rows, as `number` gives them.
        old_of: by number from 0 on the number that an entity had before; -1: none.
    """

    keys: Keys
    code: Int64s
    old_of: Int64s


def together(
    old: Keys, starts: npt.NDArray[np.uint32], more: pl.DataFrame, rows: int, *, later: bool
) -> Together:
    """Number the entities of additional rows together with those that were there.

    Args:
        old: those; `starts`: where the steps of each begin, and one more.
        more: the key columns of the additional rows.
        rows: how many rows there were before; `later`: they stand before the additional ones.
    """
    if old.kind == "named":
        named = more.drop_nulls()
        both = pl.concat([old.named, named] if later else [named, old.named]).unique(maintain_order=True)
        keys, code = _named(more, both)
        return Together(keys, code, _numbered(both, old.named))
    numbers, null = _integers(more)
    seen = numbers[~null] if null.any() else numbers
    if old.kind == "hashed":
        there = np.empty(old.count, np.int64)
        taken = old.numbers >= 0
        there[old.numbers[taken]] = old.table[taken]
    else:
        there = old.first + np.flatnonzero(np.diff(starts.astype(np.int64)))
    keys = _of_integers(dict(old.schema), np.concatenate([there, seen]), rows + len(seen))
    old_of = np.full(keys.count, -1)
    if old.kind == "range":
        old_of[_codes(keys, there, np.zeros(len(there), np.bool_))] = there - old.first
    else:
        old_of[_codes(keys, there, np.zeros(len(there), np.bool_))] = np.arange(old.count)
    return Together(keys, _codes(keys, numbers, null), old_of)


def _named(keys: pl.DataFrame, named: pl.DataFrame) -> tuple[Keys, Int64s]:
    return Keys("named", dict(keys.schema), 0, named.height, _NONE, _FREE, named), _numbered(keys, named)


def _integers(keys: pl.DataFrame) -> tuple[Int64s, npt.NDArray[np.bool_]]:
    only = keys.to_series(0)
    return only.to_physical().cast(pl.Int64).fill_null(0).to_numpy(), only.is_null().to_numpy()


def _of_integers(schema: Mapping[str, pl.DataType], seen: Int64s, rows: int) -> Keys:
    """Integers as a range where they lie densely among so many rows, else hashed."""
    first, last = (int(seen.min()), int(seen.max())) if len(seen) else (0, -1)
    if last - first < _SPARSE * rows + 1024 and first > np.iinfo(np.int64).min:
        return Keys("range", schema, first, last - first + 1, _NONE, _FREE, pl.DataFrame())
    distinct = np.unique(seen)
    places = 1 << (2 * len(distinct)).bit_length()
    table, free = np.zeros(places, np.int64), np.full(places, -1, np.int32)
    fill_table(table, free, distinct)
    return Keys("hashed", schema, 0, len(distinct), table, free, pl.DataFrame())


def _codes(keys: Keys, numbers: Int64s, null: npt.NDArray[np.bool_]) -> Int64s:
    if keys.kind == "range":
        return np.where(null, -1, numbers - keys.first)
    code = np.empty(len(numbers), np.int64)
    probe(frozen(keys.table), frozen(keys.numbers), frozen(numbers), code)
    return np.where(null, -1, code)


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

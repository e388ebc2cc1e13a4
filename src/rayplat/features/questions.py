"""A batch of questions, numbered: which entity each is about, and when it is asked.

Knows how entities of asking rows and of source rows meet; it does not know what is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rayplat.core.errors import UserError
from rayplat.features.instants import Int64s

_FEW = 50_000
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions about the entities of one source.

    Attributes:
        code: the entity of each question, as the source's rows are numbered; -1: never seen, or none.
        null: where a question has no entity.
        at: the time of each question, in microseconds.
    """

    code: Int64s
    null: Bools
    at: Int64s


def number_entities(source: pl.DataFrame, entity: tuple[str, ...]) -> Int64s:
    """Number the entities of rows by their first appearance; -1 where a key is null."""
    numbered = _by_table(source, entity)
    if numbered is not None:
        return numbered[0]
    return _find(source.select(entity), _distinct(source, entity), entity)


def ask(
    source: pl.DataFrame,
    rows: pl.DataFrame,
    entity: tuple[str, ...],
    at: Int64s,
    asks: tuple[str, ...] | None = None,
) -> Questions:
    """Make questions of asking rows.

    Args:
        source: the rows that may answer, numbered by `number_entities`.
        rows: the asking rows.
        entity: the entity columns of the source.
        asks: the columns of the asking rows that name the entity, if others than `entity`.
        at: the time of each asking row, in microseconds.

    Raises:
        UserError: an entity column is missing, or of another kind than in the source.
    """
    asking = keys_as(source.select(entity).schema, rows, asks or entity)
    null = asking.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
    numbered = _by_table(source, entity)
    if numbered is None:
        return Questions(_find(asking, _distinct(source, entity), entity), null, at)
    _, low, table = numbered
    place = asking.to_series().cast(pl.Int64).fill_null(low).to_numpy() - low
    inside = (place >= 0) & (place < len(table)) & ~null
    return Questions(np.where(inside, table[np.where(inside, place, 0)], -1), null, at)


def _by_table(source: pl.DataFrame, entity: tuple[str, ...]) -> tuple[Int64s, int, Int64s] | None:
    """The number of each row, the least key, and the number of each key from there on, by a table.

    None where a table does not pay: for few rows, keys far apart, or keys that are no integers.
    """
    if len(entity) != 1 or source.height <= _FEW:
        return None
    keys = source.get_column(entity[0])
    if not keys.dtype.is_integer() or keys.dtype == pl.UInt64 or keys.null_count():
        return None
    values = keys.cast(pl.Int64).to_numpy()
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span > 4 * source.height:
        return None
    from rayplat.features.ordering import first_seen

    code, table = np.empty(len(values), np.int64), np.full(span, -1)
    first_seen(values, low, table, code)
    return code, low, table


def _distinct(source: pl.DataFrame, entity: tuple[str, ...]) -> pl.DataFrame:
    return source.select(entity).drop_nulls().unique(maintain_order=True).with_row_index("\0code")


def _find(keys: pl.DataFrame, distinct: pl.DataFrame, entity: tuple[str, ...]) -> Int64s:
    found = keys.join(distinct, on=entity, how="left", maintain_order="left").get_column("\0code")
    return found.cast(pl.Int64).fill_null(-1).to_numpy()


def keys_as(kinds: Mapping[str, pl.DataType], rows: pl.DataFrame, asks: Sequence[str]) -> pl.DataFrame:
    """The keys of asking rows, with the names and types that the source has.

    Args:
        kinds: the entity columns of the source and their types.
        rows: the asking rows; `asks`: their columns that name the entity, in the order of `kinds`.

    Raises:
        UserError: an entity column is missing, or of another kind than in the source.
    """
    columns = []
    for name, (column, want) in zip(asks, kinds.items(), strict=True):
        if name not in rows.columns:
            raise UserError(
                f"the asking rows have no entity column {name!r}",
                f"they have: {', '.join(rows.columns)}; rename one of them",
            )
        have = rows.schema[name]
        if have not in (want, pl.Null) and not (have.is_integer() and want.is_integer()):
            raise UserError(
                f"entity column {name!r} is {have} in the asking rows and {want} in the source",
                f"cast it to {want} before asking",
            )
        columns.append(rows.get_column(name).cast(want).alias(column))
    return pl.DataFrame(columns)

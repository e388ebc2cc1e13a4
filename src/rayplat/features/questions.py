"""A batch of questions, numbered: which entity each is about, and when it is asked.

Knows how entities of asking rows and of source rows meet; it does not know what is asked.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rayplat.core.errors import UserError
from rayplat.features.instants import Int64s

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
    return _find(source.select(entity), _distinct(source, entity), entity)


def ask(source: pl.DataFrame, rows: pl.DataFrame, entity: tuple[str, ...], at: Int64s) -> Questions:
    """Make questions of asking rows.

    Args:
        source: the rows that may answer, numbered by `number_entities`.
        rows: the asking rows.
        entity: the entity columns, in both.
        at: the time of each asking row, in microseconds.

    Raises:
        UserError: an entity column is missing, or of another kind than in the source.
    """
    asking = _matching(rows, source, entity)
    null = asking.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
    return Questions(_find(asking, _distinct(source, entity), entity), null, at)


def _distinct(source: pl.DataFrame, entity: tuple[str, ...]) -> pl.DataFrame:
    return source.select(entity).drop_nulls().unique(maintain_order=True).with_row_index("\0code")


def _find(keys: pl.DataFrame, distinct: pl.DataFrame, entity: tuple[str, ...]) -> Int64s:
    found = keys.join(distinct, on=entity, how="left", maintain_order="left").get_column("\0code")
    return found.cast(pl.Int64).fill_null(-1).to_numpy()


def _matching(rows: pl.DataFrame, source: pl.DataFrame, entity: tuple[str, ...]) -> pl.DataFrame:
    columns = []
    for name in entity:
        if name not in rows.columns:
            raise UserError(
                f"the asking rows have no entity column {name!r}",
                f"they have: {', '.join(rows.columns)}; rename one of them",
            )
        have, want = rows.schema[name], source.schema[name]
        if have not in (want, pl.Null) and not (have.is_integer() and want.is_integer()):
            raise UserError(
                f"entity column {name!r} is {have} in the asking rows and {want} in the source",
                f"cast it to {want} before asking",
            )
        columns.append(rows.get_column(name).cast(want))
    return pl.DataFrame(columns)

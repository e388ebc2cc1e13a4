"""Uniqueness: which rows of a round repeat a row of the table, or an earlier row of the round.

Knows values side by side; it does not know which stored rows are worth reading (see `tables`).
"""

from collections.abc import Sequence

import polars as pl

_LEFT, _ROW = "_left_", "_row_"


def repeated(
    frame: pl.DataFrame, stored: pl.DataFrame, columns: Sequence[str], key: Sequence[str]
) -> pl.Series:
    """Mark the rows that have the values of another row.

    Args:
        frame: the rows of the round, in source order: of equal rows the first one stays.
        stored: rows of the table with `columns` and `key`; those that cannot match may be missing.
        columns: whose values together must be there once. A row with a null among them is not compared,
            as in SQL: it is not known whether it is the same.
        key: for a table whose rows are replaced by key: a row and the row that it replaces are one, and
            never repeat each other. Empty: each row is one of its own.

    Returns:
        A boolean a row.
    """
    if frame.is_empty():
        return pl.Series("repeated", [], dtype=pl.Boolean)
    told = frame.select([*dict.fromkeys([*columns, *key])]).with_row_index(_ROW).drop_nulls(list(columns))
    within = _after_another(told, columns, key)
    before = _in_stored(told, stored.drop_nulls(list(columns)), columns, key)
    return frame.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).is_in(pl.concat([within, before]).implode()).alias("repeated")
    )["repeated"]


def _after_another(told: pl.DataFrame, columns: Sequence[str], key: Sequence[str]) -> pl.Series:
    """The rows with the values of an earlier row (of another key, where there is one)."""
    first = told.select(pl.struct(columns).is_first_distinct()).to_series()
    if first.all():
        return told[_ROW].clear()
    if not key:
        return told.filter(~first)[_ROW]
    other = pl.struct(key).hash() != pl.struct(key).hash().first().over(columns)
    return told.filter(other)[_ROW]


def _in_stored(
    told: pl.DataFrame, stored: pl.DataFrame, columns: Sequence[str], key: Sequence[str]
) -> pl.Series:
    if stored.is_empty():
        return told[_ROW].clear()
    if not key:
        return told.join(stored, on=list(columns), how="semi")[_ROW]
    renamed = stored.select(*columns, *(pl.col(name).alias(_LEFT + name) for name in key))
    pairs = told.join(renamed, on=list(columns), how="inner")
    other = pl.any_horizontal(pl.col(name).ne_missing(pl.col(_LEFT + name)) for name in key)
    return pairs.filter(other)[_ROW].unique()

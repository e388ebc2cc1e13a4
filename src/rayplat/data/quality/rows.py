"""Row checks: which rows of a frame keep the table's promises, and why the others do not.

Knows the declared checks, the columns that may not be null and how long vectors are; it does not know
where bad rows go.
"""

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.column_types import vector_length
from rayplat.core.project.table import Table

_SEPARATOR = "; "


def faults(frame: pl.DataFrame, table: Table) -> pl.Series:
    """Why each row is bad.

    Args:
        frame: rows with the table's declared columns.
        table: the declaration with its checks; `nullable=False` and the length of
            a vector are checks of their own.

    Returns:
        One text a row: the reasons of all failed checks joined by `; `, in declared order; null where
        the row is good. A check whose expression gives null has failed: it did not say "good".

    Raises:
        UserError: a check cannot be computed over these rows.
    """
    reasons: list[pl.Expr] = [
        pl.when(pl.col(name).is_null()).then(pl.lit(f"{name} is missing"))
        for name, column in table.columns.items()
        if not column.nullable
    ]
    for name, column in table.columns.items():
        length = vector_length(column.type)
        if length is not None:
            reasons += _faults_of_vector(name, length)
    reasons += [
        pl.when(~check.good.fill_null(value=False)).then(pl.lit(check.reason)) for check in table.checks
    ]
    if not reasons:
        return pl.Series("reason", [None] * frame.height, dtype=pl.String)
    try:
        texts = frame.select(r.alias(f"reason_{i}") for i, r in enumerate(reasons))
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"a check of table {table.name} cannot be computed: {error}",
            "write checks that give true or false for every row of the declared types",
        ) from error
    # The common case is that nothing failed: then no text needs to be joined at all.
    failed = [c for c in texts.columns if texts[c].null_count() < texts.height]
    if not failed:
        return pl.Series("reason", [None] * frame.height, dtype=pl.String)
    joined = pl.concat_str(failed, separator=_SEPARATOR, ignore_nulls=True)
    return texts.select(
        pl.when(pl.any_horizontal(pl.col(failed).is_not_null())).then(joined).alias("reason")
    )["reason"]


def _faults_of_vector(name: str, length: int) -> list[pl.Expr]:
    """A vector has so many elements, and each of them is a finite number."""
    vector = pl.col(name)
    told = pl.format(f"{name} has {{}} elements, not {length}", vector.list.len())
    return [
        pl.when(vector.list.len() != length).then(told),
        pl.when(vector.list.eval(pl.element().is_null()).list.any()).then(
            pl.lit(f"{name} has an element that is null")
        ),
        pl.when(vector.list.eval(~pl.element().is_finite()).list.any()).then(
            pl.lit(f"{name} has an element that is not finite")
        ),
    ]


def split(frame: pl.DataFrame, table: Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part the good rows from the bad ones; order is kept in both.

    Returns:
        The good rows as they came, and the bad rows with a further column `reason`.
    """
    reason = faults(frame, table)
    good = reason.is_null()
    return frame.filter(good), frame.with_columns(reason).filter(~good)

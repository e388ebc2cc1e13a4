"""Expressions evaluated so that a row's values do not depend on the rows beside it, down to the last bit.

Knows when Polars takes another path; it does not know what the expressions mean. Every expression of a
definition is evaluated here: in training, when values are materialized, and when a request is answered.

Polars divides a column by a number as a multiplication with its reciprocal, but divides exactly where the
column, or one of its chunks, is a single value: `x / 1000` of one request and of a million training rows
differ in the last bit. So a single row is evaluated beside a copy of itself, and no chunk is left alone.
"""

from collections.abc import Iterable

import polars as pl


def evaluate(frame: pl.DataFrame, exprs: Iterable[pl.Expr]) -> pl.DataFrame:
    """Row transforms of a frame, with the same bits whatever the frame's height and chunks are.

    Args:
        frame: the rows; at least one column.
        exprs: row by row, see `definition.check`; named.

    Returns:
        the results alone, a row for each row of the frame.
    """
    wanted = list(exprs)
    # Columns are added and then chosen: a literal alone takes its length from the others.
    found = _settled(frame).with_columns(wanted).select(expr.meta.output_name() for expr in wanted)
    return found.head(frame.height)


def _settled(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its columns as values (a constant may be kept as one value), none of them alone."""
    if frame.height == 1:
        return pl.DataFrame([series.clone().extend(series) for series in frame.get_columns()])
    return pl.DataFrame([s.rechunk() if 1 in s.chunk_lengths() else s for s in frame.get_columns()])

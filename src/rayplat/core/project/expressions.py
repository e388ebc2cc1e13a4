"""What a Polars expression gives on a table's columns, found by running it on a few made-up rows.

Knows the types of the columns in Polars and how to tell a row transform from an aggregate; it does
not know which declaration the expression belongs to.
"""

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rayplat.core.project.table import Column

if TYPE_CHECKING:
    import polars as pl

_OUT = "__out"
_GROUP = "__group"
_START = datetime(2024, 1, 1, tzinfo=UTC)
# Three rows that differ in every column: an expression that mixes rows gives them away.
_SAMPLES: dict[str, list[Any]] = {
    "string": ["7", "x", "31"],
    "int32": [7, 2, 31],
    "int64": [7, 2, 31],
    "float32": [7.5, 2.25, 31.0],
    "float64": [7.5, 2.25, 31.0],
    "bool": [True, False, True],
    "date": [_START.date(), (_START + timedelta(days=31)).date(), (_START + timedelta(days=400)).date()],
    "binary": [b"7", b"x", b"31"],
    "timestamp": [_START, _START + timedelta(hours=31), _START + timedelta(days=400)],
}

_SEVERAL = ("gives several columns", "name one column, and declare a feature for each value")


def polars_types(columns: Mapping[str, Column]) -> "dict[str, pl.DataType]":
    """The Polars type of each column. Columns of an unknown type are left out."""
    import polars as pl

    types: dict[str, pl.DataType] = {
        "string": pl.String(),
        "int32": pl.Int32(),
        "int64": pl.Int64(),
        "float32": pl.Float32(),
        "float64": pl.Float64(),
        "bool": pl.Boolean(),
        "date": pl.Date(),
        "binary": pl.Binary(),
        "timestamp": pl.Datetime("us", "UTC"),
    }
    return {
        name: types[column.type]
        for name, column in columns.items()
        if isinstance(column, Column) and isinstance(column.type, str) and column.type in types
    }


def empty(columns: Mapping[str, Column]) -> "pl.DataFrame":
    """A frame of no rows with the columns of the table."""
    import polars as pl

    return pl.DataFrame(schema=polars_types(columns))


def sample(columns: Mapping[str, Column]) -> "pl.DataFrame":
    """A frame of three made-up rows with the columns of the table."""
    import polars as pl

    types = polars_types(columns)
    return pl.DataFrame({name: _SAMPLES[columns[name].type] for name in types}, schema=types)


def missing_inputs(expr: "pl.Expr", columns: Mapping[str, Column]) -> list[str]:
    """The columns that the expression reads and the table does not have."""
    return [name for name in expr.meta.root_names() if name not in columns]


def fault_of_transform(
    expr: "pl.Expr", columns: Mapping[str, Column], *, boolean: bool = False
) -> tuple[str, str] | None:
    """(what, mend) if the expression is no row transform: one value a row, of that row alone.

    Args:
        boolean: only a boolean will do; else a number will, too.
    """
    if expr.meta.has_multiple_outputs():
        return _SEVERAL
    try:
        out = _evaluated(empty(columns), expr)
    except Exception as error:
        return _failed(error)
    return _fault_of_type(out, boolean=boolean) or _fault_of_mixing(expr, sample(columns))


def fault_of_aggregate(expr: "pl.Expr", columns: Mapping[str, Column]) -> tuple[str, str] | None:
    """(what, mend) if the expression is no aggregate: one number or boolean for a group of rows."""
    import polars as pl

    if expr.meta.has_multiple_outputs():
        return _SEVERAL
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grouped = empty(columns).with_columns(pl.lit(0).alias(_GROUP)).group_by(_GROUP)
            out = grouped.agg(expr.alias(_OUT)).get_column(_OUT)
    except Exception as error:
        return _failed(error)
    if isinstance(out.dtype, pl.List):
        return "gives a value a row, not one for the window", "reduce it: .mean(), .sum(), .max(), .last() …"
    return _fault_of_type(out, boolean=False)


def _evaluated(frame: "pl.DataFrame", expr: "pl.Expr") -> "pl.Series":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return frame.with_columns(expr.alias(_OUT)).get_column(_OUT)


def _selected(frame: "pl.DataFrame", expr: "pl.Expr") -> "pl.Series":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return frame.select(expr.alias(_OUT)).get_column(_OUT)


def _same(left: "pl.Series", right: "pl.Series") -> bool:
    """Equal up to rounding: Polars may divide a column by a number and a single row a bit differently."""
    import numpy as np
    import polars as pl

    if not left.is_null().equals(right.is_null()):
        return False
    first, second = (series.cast(pl.Float64).to_numpy() for series in (left, right))
    return bool(np.allclose(first, second, rtol=1e-9, atol=1e-12, equal_nan=True))


def _failed(error: Exception) -> tuple[str, str]:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"fails: {type(error).__name__}: {first}", "correct the expression for the types of its columns"


def _fault_of_type(out: "pl.Series", *, boolean: bool) -> tuple[str, str] | None:
    import polars as pl

    if out.dtype == pl.Boolean or (out.dtype.is_numeric() and not boolean):
        return None
    wanted = "a boolean" if boolean else "a number or a boolean"
    return f"gives {out.dtype}, not {wanted}", f"make it {wanted}: compare, cast or count"


def _fault_of_mixing(expr: "pl.Expr", rows: "pl.DataFrame") -> tuple[str, str] | None:
    """A transform must give a row the same value alone (as served) and among others (as trained)."""
    import polars as pl

    try:
        together = _selected(rows, expr)
        if together.len() not in (1, rows.height):
            return "changes the number of rows", "give one value for each row"
        alone = pl.concat([_evaluated(rows[i : i + 1], expr) for i in range(rows.height)])
        if together.len() == 1:
            together = together.new_from_index(0, rows.height)
    except Exception:
        # The made-up values may be outside of what the expression is for (a date in a text, say).
        return None
    if _same(together, alone):
        return None
    mend = 'a value may depend on its own row only; over several rows use rp.window("3h").agg(…)'
    return "gives a row another value when other rows are there", mend

"""What a Polars expression gives on a table's columns, found by running it on a few made-up rows.

Knows the types of the columns in Polars and how to tell a row transform from an aggregate; it does
not know which declaration the expression belongs to.
"""

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rayplat.core.project.column_types import is_column_type, polars_type, vector_length
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
    return {
        name: polars_type(column.type)
        for name, column in columns.items()
        if isinstance(column, Column) and is_column_type(column.type)
    }


def empty(columns: Mapping[str, Column]) -> "pl.DataFrame":
    """A frame of no rows with the columns of the table."""
    import polars as pl

    return pl.DataFrame(schema=polars_types(columns))


def sample(columns: Mapping[str, Column]) -> "pl.DataFrame":
    """A frame of three made-up rows with the columns of the table."""
    import polars as pl

    types = polars_types(columns)
    return pl.DataFrame({name: _samples(columns[name].type) for name in types}, schema=types)


def _samples(kind: str) -> list[Any]:
    length = vector_length(kind)
    if length is None:
        return _SAMPLES[kind]
    return [[value + place for place in range(length)] for value in _SAMPLES["float32"]]


def missing_inputs(expr: "pl.Expr", columns: Mapping[str, Column]) -> list[str]:
    """The columns that the expression reads and the table does not have."""
    return [name for name in expr.meta.root_names() if name not in columns]


def fault_of_transform(
    expr: "pl.Expr", columns: Mapping[str, Column], *, boolean: bool = False
) -> tuple[str, str] | None:
    """(what, mend) if the expression is no row transform: one value a row, of that row alone.

    Args:
        boolean: only a boolean will do; else any plain value, a time or a vector will.
    """
    if expr.meta.has_multiple_outputs():
        return _SEVERAL
    try:
        out = _evaluated(empty(columns), expr)
    except Exception as error:
        return _failed(error)
    return _fault_of_type(out.dtype, boolean=boolean) or _fault_of_mixing(expr, sample(columns))


def fault_of_aggregate(expr: "pl.Expr", columns: Mapping[str, Column]) -> tuple[str, str] | None:
    """(what, mend) if the expression is no aggregate: one value for a group of rows."""
    import polars as pl

    if expr.meta.has_multiple_outputs():
        return _SEVERAL
    try:
        dtype = aggregate_type(expr, columns)
    except Exception as error:
        return _failed(error)
    if isinstance(dtype, pl.List):
        return "gives a value a row, not one for the window", "reduce it: .mean(), .sum(), .max(), .last() …"
    return _fault_of_type(dtype, boolean=False)


def transform_type(expr: "pl.Expr", columns: Mapping[str, Column]) -> "pl.DataType":
    """The Polars type of a row transform's values; Polars' own error where it fails."""
    return _evaluated(empty(columns), expr).dtype


def aggregate_type(expr: "pl.Expr", columns: Mapping[str, Column]) -> "pl.DataType":
    """The Polars type of an aggregate over a group of rows; Polars' own error where it fails."""
    import polars as pl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grouped = empty(columns).with_columns(pl.lit(0).alias(_GROUP)).group_by(_GROUP)
        return grouped.agg(expr.alias(_OUT)).get_column(_OUT).dtype


def renamed(expr: "pl.Expr", names: Mapping[str, str]) -> "pl.Expr":
    """The expression over columns of other names.

    Args:
        names: by name of a column as it is read, the one that is to be read; others stay.
    """
    import json
    from io import StringIO

    import polars as pl

    def swap(node: Any) -> Any:
        if isinstance(node, list):
            return [swap(part) for part in node]
        if not isinstance(node, dict):
            return node
        column = node.get("Column")
        if len(node) == 1 and isinstance(column, str):
            return {"Column": names.get(column, column)}
        return {key: swap(part) for key, part in node.items()}

    told = swap(json.loads(expr.meta.serialize(format="json")))
    return pl.Expr.deserialize(StringIO(json.dumps(told)), format="json")


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
    if not (left.dtype.is_numeric() or left.dtype == pl.Boolean):
        return left.equals(right)
    first, second = (series.cast(pl.Float64).to_numpy() for series in (left, right))
    return bool(np.allclose(first, second, rtol=1e-9, atol=1e-12, equal_nan=True))


def _failed(error: Exception) -> tuple[str, str]:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"fails: {type(error).__name__}: {first}", "correct the expression for the types of its columns"


def _fault_of_type(dtype: "pl.DataType", *, boolean: bool) -> tuple[str, str] | None:
    import polars as pl

    if boolean:
        good = dtype == pl.Boolean
        return None if good else (f"gives {dtype}, not a boolean", "make it a boolean: compare or cast")
    if dtype == pl.List(pl.Float32) or not (dtype.is_nested() or dtype in (pl.Object, pl.Duration, pl.Time)):
        return None
    mend = "make it a number, a boolean, a text, a date, a timestamp or a vector (a list of Float32)"
    return f"gives {dtype}, which a feature cannot be", mend


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

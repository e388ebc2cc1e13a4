"""What type the features of a view have, found by evaluating them on no rows.

Knows the results of expressions, windows and Python functions by type; it does not know their values.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rayplat.core.project.expressions import aggregate_type, polars_types, transform_type
from rayplat.core.project.table import Column, Table
from rayplat.core.project.view import DerivedView, FeatureView, PythonFeature, View, upstream
from rayplat.core.project.window import WindowAggregate

if TYPE_CHECKING:
    import polars as pl

ARITHMETIC = ("sum", "mean", "stddev", "quantile")
"""The aggregates that need numbers or booleans."""


def feature_types(view: View) -> "dict[str, pl.DataType]":
    """The Polars type of each feature by its full name; a feature whose type cannot be told is left out."""
    columns = readable_columns(view)
    found = {}
    for name, definition in zip(view.names, view.features.values(), strict=True):
        dtype = _type_of(definition, columns)
        if dtype is not None:
            found[name] = dtype
    return found


def whole(view: Any) -> bool:
    """Whether a declared view and those that it is made of have the types that views have.

    What is wrong with one that has not is told by its own check; nothing else can look at it.
    """
    if not isinstance(view, View) or not isinstance(view.name, str) or not _named(view.features):
        return False
    source: Any = view.source
    if source is None:
        good = isinstance(view, DerivedView)
    else:
        good = isinstance(source, Table) and _named(source.columns)
    above: Any = upstream(view)
    if isinstance(view, FeatureView):
        entity, keys = view.entity, view.join_keys
        good = good and isinstance(entity, tuple) and _named(keys) and _texts((*entity, *keys.values()))
    return good and isinstance(above, tuple) and all(whole(one) for one in above)


def _named(values: Any) -> bool:
    return isinstance(values, Mapping) and _texts(values)


def _texts(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def readable_columns(view: View) -> dict[str, Column]:
    """What the features of a view may read: the columns of its table, and features of other views."""
    columns = {} if view.source is None else dict(view.source.columns)
    if isinstance(view, DerivedView):
        for one in upstream(view):
            columns |= feature_columns(one)
    return columns


def feature_columns(view: View) -> dict[str, Column]:
    """The features of a view as columns, by full name, as far as their types are column types."""
    declared = {name: _declared(dtype) for name, dtype in feature_types(view).items()}
    return {name: Column(kind) for name, kind in declared.items() if kind is not None}


def value_type(aggregate: WindowAggregate, columns: Mapping[str, Column]) -> "pl.DataType | None":
    """The Polars type of what a window aggregates; None if it cannot be told."""
    return _tried(transform_type, aggregate.value, columns)


def _type_of(definition: Any, columns: Mapping[str, Column]) -> "pl.DataType | None":
    if isinstance(definition, PythonFeature):
        return polars_types({"it": Column(definition.type)}).get("it")
    if not isinstance(definition, WindowAggregate):
        return _tried(transform_type, definition, columns)
    if definition.kind == "expression":
        return _tried(aggregate_type, definition.value, columns)
    return _of_window(definition.kind, value_type(definition, columns))


def _of_window(kind: str, values: "pl.DataType | None") -> "pl.DataType | None":
    import polars as pl

    if kind in ("count", "nunique"):
        return pl.Int64()
    if kind in ("mean", "stddev", "quantile"):
        return pl.Float64()
    if kind == "sum":
        return None if values is None else pl.Float64() if values.is_float() else pl.Int64()
    return values


def _tried(find: Any, expr: Any, columns: Mapping[str, Column]) -> "pl.DataType | None":
    from polars.exceptions import PolarsError

    try:
        found: pl.DataType = find(expr, columns)
    except (PolarsError, TypeError, ValueError, AttributeError):
        # What is wrong with the expression is told by its own check.
        return None
    return found


def _declared(dtype: "pl.DataType") -> str | None:
    """The column type whose values stand for those of a Polars type in a check."""
    import polars as pl

    if dtype.is_integer():
        return "int32" if dtype in (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16) else "int64"
    plain = {
        pl.Float32: "float32",
        pl.Float64: "float64",
        pl.Boolean: "bool",
        pl.String: "string",
        pl.Date: "date",
        pl.Binary: "binary",
        pl.Datetime: "timestamp",
    }
    return plain.get(dtype.base_type())

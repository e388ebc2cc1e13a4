"""What makes a feature view's entity hold together, and what stands for its nulls.

Knows entity columns, the columns that ask for them, ttl, defaults and required features of one view; which
model asks is checked with the model.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rayplat.core.project.faults import Faults, short
from rayplat.core.project.feature_types import feature_columns, feature_types, whole
from rayplat.core.project.table import Column
from rayplat.core.project.view import FeatureView

if TYPE_CHECKING:
    import polars as pl

    from rayplat.core.project.project import Project

_WHOLE = ("int32", "int64")
_INT64 = 2**63


def check_keys(view: FeatureView, project: "Project", faults: Faults) -> None:
    """Note every fault of the entity, the join keys, the ttl, the defaults and what is required."""
    _check_entity(view, faults)
    _check_join_keys(view, project, faults)
    _check_ttl(view, faults)
    _check_defaults(view, faults)
    name = f"view {view.name!r}"
    if faults.expect(view.where, f"{name}: required", view.required, tuple, "a feature's name or several"):
        for feature in view.required:
            if faults.known(view.where, f"{name}: the required feature", feature, view.features) and (
                isinstance(view.defaults, Mapping) and feature in view.defaults
            ):
                faults.add(
                    view.where,
                    f"{name}: feature {feature!r} is required and has a default",
                    "keep one: a default means that it is never absent",
                )


def same_kind(one: Column, other: Column) -> bool:
    """Whether values of two columns can name the same entity: one type, or whole numbers both."""
    return one.type == other.type or {one.type, other.type} <= set(_WHOLE)


def _check_entity(view: FeatureView, faults: Faults) -> None:
    where, name = view.where, f"view {view.name!r}"
    if not faults.expect(where, f"{name}: entity", view.entity, tuple, "a column's name or several"):
        return
    if not view.entity:
        faults.add(where, f"{name} has no entity", "name the columns that say what the features are of")
    for column in view.entity:
        if faults.known(
            where, f"{name}: in {view.source.name!r} the entity column", column, view.source.columns
        ):
            declared = view.source.columns[column]
            if isinstance(declared, Column) and str(declared.type).startswith("vector"):
                faults.add(
                    where,
                    f"{name}: the entity column {column!r} is a {declared.type}",
                    "use a text or a number",
                )


def _check_join_keys(view: FeatureView, project: "Project", faults: Faults) -> None:
    where, name = view.where, f"view {view.name!r}"
    wanted = "a dict of entity column to asking column"
    if not faults.expect(where, f"{name}: join_keys", view.join_keys, Mapping, wanted):
        return
    join_keys: Mapping[Any, Any] = view.join_keys
    entity: Any = view.entity
    for column, asks in join_keys.items():
        columns = entity if isinstance(entity, tuple) else ()
        known = faults.known(where, f"{name}: in join_keys the entity column", column, columns)
        if not faults.expect(
            where, f"{name}: join_keys: what asks for {column!r}", asks, str, "a column's name"
        ):
            continue
        if "__" in asks:
            _check_through(view, column if known else None, asks, project, faults)


def _check_through(
    view: FeatureView, column: str | None, asks: str, project: "Project", faults: Faults
) -> None:
    """A join key that is a feature of another view."""
    subject = f"view {view.name!r}: join_keys: the feature"
    there = {name: one for one in view.through for name in one.names}
    if asks not in there:
        names = [n for one in project.views if one is not view for n in _names(one)]
        if asks in names:
            faults.add(
                view.where,
                f"{subject} {asks!r} is of a view that is declared after it",
                "declare that view first",
            )
        else:
            faults.known(view.where, subject, asks, names)
        return
    have = feature_columns(there[asks]).get(asks) if whole(there[asks]) else None
    want = view.source.columns.get(column) if column else None
    if have is not None and isinstance(want, Column) and not same_kind(have, want):
        faults.add(
            view.where,
            f"{subject} {asks!r} is {have.type}, and {view.source.name}.{column} is {want.type}",
            "cast it in its view",
        )


def _names(view: Any) -> tuple[str, ...]:
    return view.names if isinstance(view.features, Mapping) else ()


def _check_ttl(view: FeatureView, faults: Faults) -> None:
    where, name = view.where, f"view {view.name!r}"
    if view.ttl is None or not faults.expect(where, f"{name}: ttl", view.ttl, timedelta, "a timedelta"):
        return
    if view.ttl <= timedelta(0):
        faults.add(where, f"{name}: ttl is {view.ttl}", "give a length of time over 0, or None for ever")
    if view.source.event_time is None:
        faults.add(
            where,
            f"{name} has a ttl, and {view.source.name!r} has no event_time",
            "remove the ttl, or declare the table's event_time",
        )


def _check_defaults(view: FeatureView, faults: Faults) -> None:
    where, name = view.where, f"view {view.name!r}"
    if not faults.expect(where, f"{name}: defaults", view.defaults, Mapping, "a dict of feature to value"):
        return
    if not view.defaults:
        return
    types = feature_types(view)
    for feature, value in view.defaults.items():
        if not faults.known(where, f"{name}: defaults: the feature", feature, view.features):
            continue
        dtype = types.get(f"{view.name}__{feature}")
        if dtype is not None and not _fits(value, dtype):
            faults.add(
                where,
                f"{name}: the default of {feature!r} is {short(value)}, and the feature is {dtype}",
                "give a value of the feature's type",
            )


def _fits(value: Any, dtype: "pl.DataType") -> bool:
    import polars as pl

    if dtype.is_numeric():
        kinds: tuple[type, ...] = (int,) if dtype.is_integer() else (int, float)
        good = isinstance(value, kinds) and not isinstance(value, bool)
        return good and (dtype.is_float() or -_INT64 <= value < _INT64)
    if dtype == pl.List(pl.Float32):
        return isinstance(value, list | tuple) and all(isinstance(one, int | float) for one in value)
    if dtype == pl.Date:
        return isinstance(value, date) and not isinstance(value, datetime)
    plain: dict[Any, type] = {pl.Boolean: bool, pl.String: str, pl.Binary: bytes, pl.Datetime: datetime}
    return isinstance(value, plain.get(dtype.base_type(), ()))

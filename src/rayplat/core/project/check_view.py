"""What makes a declared view hold together: its source, its entity, its features and its ttl.

Knows views and the tables that they read; models are checked beside it.
"""

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from rayplat.core.project.check_checks import check_expression, check_inputs
from rayplat.core.project.expressions import fault_of_aggregate
from rayplat.core.project.faults import Faults
from rayplat.core.project.table import Table
from rayplat.core.project.view import FeatureView, View, WindowAggregate

_FEATURE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def check_view(view: View, tables: Collection[Table], faults: Faults) -> None:
    """Note every fault of one view of a project with these tables."""
    where, name = view.where, f"view {view.name!r}"
    faults.name(where, "a view", view.name)
    _check_separator(view, name, view.name, faults)
    if not check_table_of(view.where, f"{name}: source", view.source, tables, faults):
        return
    if isinstance(view, FeatureView):
        _check_entity(view, faults)
        _check_ttl(view, faults)
    if not faults.expect(where, f"{name}: features", view.features, Mapping, "a dict of name to expression"):
        return
    if not view.features:
        faults.add(where, f"{name} has no features", 'declare them: features={"gusty": pl.col("wind") > 25}')
    for feature, definition in view.features.items():
        faults.name(where, f"a feature of {name}", feature, _FEATURE)
        _check_separator(view, f"{name}: feature {feature!r}", feature, faults)
        _check_feature(view, f"{name}: feature {feature!r}", definition, faults)
    _check_one_kind(view, faults)


def check_table_of(where: Any, subject: str, table: Any, tables: Collection[Table], faults: Faults) -> bool:
    """Note a fault unless `table` is one of the project's own, with columns that can be looked at."""
    if not faults.expect(where, subject, table, Table, "a table that the project declared"):
        return False
    if not any(table is own for own in tables):
        faults.add(
            where,
            f"{subject} {table.name!r} is a table of another project",
            "use what project.table(…) returned",
        )
        return False
    return isinstance(table.columns, Mapping)


def _check_separator(view: View, subject: str, name: Any, faults: Faults) -> None:
    if isinstance(name, str) and "__" in name:
        faults.add(
            view.where,
            f"{subject} has two underscores in a row",
            "they part view and feature in full names: use one",
        )


def _check_entity(view: FeatureView, faults: Faults) -> None:
    where, name = view.where, f"view {view.name!r}"
    if not faults.expect(where, f"{name}: entity", view.entity, tuple, "a column's name or several"):
        return
    if not view.entity:
        faults.add(where, f"{name} has no entity", "name the columns that say what the features are of")
    for column in view.entity:
        faults.known(where, f"{name}: in {view.source.name!r} the entity column", column, view.source.columns)


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


def _check_feature(view: View, subject: str, definition: Any, faults: Faults) -> None:
    if not isinstance(definition, WindowAggregate):
        check_expression(view.where, subject, definition, view.source, faults)
    elif isinstance(view, FeatureView):
        _check_window(view, subject, definition, faults)
    else:
        faults.add(
            view.where,
            f"{subject} is a window aggregate, in a view of the asking row",
            "put it into a feature_view",
        )


def _check_window(view: FeatureView, subject: str, definition: WindowAggregate, faults: Faults) -> None:
    import polars as pl

    where = view.where
    if (
        faults.expect(where, f"{subject}: the window", definition.length, timedelta, "a length: '3h', '7d'")
    ) and (definition.length <= timedelta(0)):
        faults.add(where, f"{subject}: the window is {definition.length}", "give a length over 0")
    if view.source.event_time is None:
        faults.add(
            where,
            f"{subject} is over a window, and {view.source.name!r} has no event_time",
            "declare the table's event_time",
        )
    if not faults.expect(where, subject, definition.aggregate, pl.Expr, "a Polars expression"):
        return
    if check_inputs(where, subject, definition.aggregate, view.source, faults):
        fault = fault_of_aggregate(definition.aggregate, view.source.columns)
        if fault:
            faults.add(where, f"{subject} {fault[0]}", fault[1])


def _check_one_kind(view: View, faults: Faults) -> None:
    windowed = [name for name, f in view.features.items() if isinstance(f, WindowAggregate)]
    rows = [name for name in view.features if name not in windowed]
    if isinstance(view, FeatureView) and windowed and rows:
        faults.add(
            view.where,
            f"view {view.name!r} mixes window features ({windowed[0]!r}) and row features ({rows[0]!r})",
            "declare two views over the same source",
        )

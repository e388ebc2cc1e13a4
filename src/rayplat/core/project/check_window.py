"""What makes a declared window aggregate hold together: its lengths, its value, its filter and its rank.

Knows one aggregate and the table that it reads; it does not know the view's other features.
"""

from datetime import timedelta

from rayplat.core.project.check_checks import check_expression, check_inputs
from rayplat.core.project.expressions import fault_of_aggregate, fault_of_transform
from rayplat.core.project.faults import Faults
from rayplat.core.project.feature_types import ARITHMETIC, value_type
from rayplat.core.project.view import FeatureView
from rayplat.core.project.window import KINDS, Window, WindowAggregate


def check_window(view: FeatureView, subject: str, definition: WindowAggregate, faults: Faults) -> None:
    """Note every fault of one window feature of a view."""
    where = view.where
    if view.source.event_time is None:
        faults.add(
            where,
            f"{subject} is over a window, and {view.source.name!r} has no event_time",
            "declare the table's event_time",
        )
    if faults.expect(where, f"{subject}: the window", definition.window, Window, "an rp.window(…)"):
        _check_lengths(view, subject, definition.window, faults)
        if definition.window.where is not None:
            told = f"{subject}: the filter"
            check_expression(where, told, definition.window.where, view.source, faults, boolean=True)
    if faults.known(where, f"{subject}: the aggregate", definition.kind, (*KINDS, "expression")):
        _check_value(view, subject, definition, faults)
        _check_rank(view, subject, definition, faults)


def _check_lengths(view: FeatureView, subject: str, window: Window, faults: Faults) -> None:
    where, wanted = view.where, "a length: '3h', '7d'"
    good = faults.expect(where, f"{subject}: the window", window.length, timedelta, wanted)
    if good and window.length <= timedelta(0):
        faults.add(where, f"{subject}: the window is {window.length}", "give a length over 0")
    if window.every is None or not faults.expect(where, f"{subject}: every", window.every, timedelta, wanted):
        return
    if window.every <= timedelta(0):
        faults.add(where, f"{subject}: every is {window.every}", "give a length over 0")
    elif good and window.every > window.length:
        faults.add(
            where,
            f"{subject}: every is {window.every}, longer than the window of {window.length}",
            "rows between two windows would never count: give at most the window's length",
        )


def _check_value(view: FeatureView, subject: str, definition: WindowAggregate, faults: Faults) -> None:
    import polars as pl

    where, columns = view.where, view.source.columns
    if not faults.expect(where, subject, definition.value, pl.Expr, "a Polars expression"):
        return
    if not check_inputs(where, subject, definition.value, view.source, faults):
        return
    find = fault_of_transform if definition.kind in KINDS else fault_of_aggregate
    fault = find(definition.value, columns)
    if fault:
        faults.add(where, f"{subject} {fault[0]}", fault[1])
        return
    values = value_type(definition, columns) if definition.kind in KINDS else None
    if values is None:
        return
    if definition.kind in ARITHMETIC and not (values.is_numeric() or values == pl.Boolean):
        faults.add(
            where,
            f"{subject} is the {definition.kind} of {values} values, not of numbers",
            "cast them, or use count, nunique, first, last, min or max",
        )
    elif values.is_nested() or values == pl.Binary:
        faults.add(
            where, f"{subject} is over {values} values", "reduce them to a number or a text for the row first"
        )


def _check_rank(view: FeatureView, subject: str, definition: WindowAggregate, faults: Faults) -> None:
    if definition.kind != "quantile":
        return
    wanted = "a rank from 0 to 1"
    rank = definition.q
    if (
        faults.expect(view.where, f"{subject}: q", rank, (int, float), wanted)
        and not 0 <= float(rank or 0) <= 1
    ):
        faults.add(view.where, f"{subject}: q is {rank}", "give a rank from 0 to 1: 0.5 is the median")

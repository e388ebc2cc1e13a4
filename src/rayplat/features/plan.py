"""What is worked out once a view and used at every question: checked, digested, aliased.

Knows how to prepare a definition; it does not know the rows that it is evaluated on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from rayplat.core.project.view import FeatureView, PythonFeature, View
from rayplat.core.project.window import WindowAggregate
from rayplat.features.definition import check, digest, micros, reach, source_columns

_KEPT = 1024
_plans: "dict[int, Plan]" = {}


@dataclass(frozen=True, slots=True)
class WindowFeature:
    """One window aggregate of a view.

    Attributes:
        name: the full name.
        kind: one of `core.project.window.KINDS`, or `expression`.
        value: the value of a row; for `expression` what reduces the window's rows.
        where: a row counts only where this is true; None: every row.
        length_us: the length of the window in microseconds. `every_us`: None: sliding; see `Window.every`.
        q: the rank of a quantile.
    """

    name: str
    kind: str
    value: pl.Expr
    where: pl.Expr | None
    length_us: int
    every_us: int | None
    q: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A view that has passed its checks.

    Attributes:
        view: the view itself; holding it keeps its `id` its own.
        digest: the SHA-256 of the definition.
        columns: the source columns that it needs, without the system columns.
        rows: the row transforms under their full names.
        windows: the window aggregates, in declared order.
        reach_us: how far before a question the rows of the windows lie, in microseconds; 0 without windows.
        ttl_us: the ttl in microseconds, or None.
    """

    view: View
    digest: str
    columns: tuple[str, ...]
    rows: Mapping[str, pl.Expr]
    windows: tuple[WindowFeature, ...]
    reach_us: int
    ttl_us: int | None


def plan(view: View) -> Plan:
    """Prepare a view, or take the preparation of an earlier call with the same object.

    Raises:
        UserError: the definition cannot be trusted (see `definition.check`).
    """
    found = _plans.get(id(view))
    if found is None:
        found = _prepare(view)
        if len(_plans) >= _KEPT:
            _plans.clear()
        _plans[id(view)] = found
    return found


def _prepare(view: View) -> Plan:
    check(view)
    rows: dict[str, pl.Expr] = {}
    windows: list[WindowFeature] = []
    for name, definition in zip(view.names, view.features.values(), strict=True):
        if isinstance(definition, WindowAggregate):
            windows.append(_window(name, definition))
        else:
            rows[name] = _opaque(definition) if isinstance(definition, PythonFeature) else definition
    if not isinstance(view, FeatureView):
        return Plan(view, digest(view), view.inputs, rows, (), 0, None)
    return Plan(
        view=view,
        digest=digest(view),
        columns=source_columns(view),
        rows=rows,
        windows=tuple(windows),
        reach_us=micros(reach(view)),
        ttl_us=None if view.ttl is None else micros(view.ttl),
    )


def _window(name: str, definition: WindowAggregate) -> WindowFeature:
    window = definition.window
    return WindowFeature(
        name=name,
        kind=definition.kind,
        value=definition.value,
        where=window.where,
        length_us=micros(window.length),
        every_us=None if window.every is None else micros(window.every),
        q=definition.q,
    )


def _opaque(definition: PythonFeature) -> pl.Expr:
    """A Python function as an expression over its declared inputs."""
    function = definition.function

    def apply(inputs: pl.Series) -> pl.Series:
        columns = inputs.struct.unnest()
        return pl.Series(function(*columns.iter_columns()))

    return pl.struct(definition.inputs).map_batches(apply, is_elementwise=True)

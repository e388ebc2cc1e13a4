"""What is worked out once a view and used at every question: checked, digested, aliased.

Knows how to prepare a definition; it does not know the rows that it is evaluated on.
"""

from dataclasses import dataclass

import polars as pl

from rayplat.core.project.view import FeatureView, RequestView, View, WindowAggregate
from rayplat.features.definition import check, digest, longest_window, micros, source_columns

_KEPT = 1024
_plans: "dict[int, Plan]" = {}


@dataclass(frozen=True, slots=True)
class Plan:
    """A view that has passed its checks.

    Attributes:
        view: the view itself; holding it keeps its `id` its own.
        digest: the SHA-256 of the definition.
        columns: the source columns that it needs, without the system columns.
        rows: the row transforms under their full names.
        windows: the aggregates under their full names, by window length in microseconds.
        longest_us: the longest window in microseconds; 0 where there is none.
        ttl_us: the ttl in microseconds, or None.
    """

    view: View
    digest: str
    columns: tuple[str, ...]
    rows: dict[str, pl.Expr]
    windows: dict[int, list[pl.Expr]]
    longest_us: int
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
    windows: dict[int, list[pl.Expr]] = {}
    for name, definition in zip(view.names, view.features.values(), strict=True):
        if isinstance(definition, WindowAggregate):
            windows.setdefault(micros(definition.length), []).append(definition.aggregate.alias(name))
        else:
            rows[name] = definition
    if isinstance(view, RequestView):
        return Plan(view, digest(view), view.inputs, rows, {}, 0, None)
    return _feature_plan(view, rows, windows)


def _feature_plan(view: FeatureView, rows: dict[str, pl.Expr], windows: dict[int, list[pl.Expr]]) -> Plan:
    longest = longest_window(view)
    return Plan(
        view=view,
        digest=digest(view),
        columns=source_columns(view),
        rows=rows,
        windows=windows,
        longest_us=0 if longest is None else micros(longest),
        ttl_us=None if view.ttl is None else micros(view.ttl),
    )

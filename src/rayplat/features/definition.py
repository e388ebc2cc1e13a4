"""The canonical description of a view, its digest, and what a definition may not contain.

Knows how a view is written down so that two processes agree on it, and which expressions can be
trusted row by row; it does not know how values are computed or kept.
"""

import hashlib
import inspect
import json
import textwrap
from datetime import date, datetime, timedelta
from typing import Any

import orjson
import polars as pl
from polars.exceptions import PolarsError

from rayplat.core.errors import UserError
from rayplat.core.project.table import Table
from rayplat.core.project.view import DerivedView, FeatureView, PythonFeature, RequestView, View
from rayplat.core.project.window import KINDS, WindowAggregate

PARTITION = "_partition"
OFFSET = "_offset"
"""The system columns of a table that is fed by a log: where a row came from."""

_MICROSECOND = timedelta(microseconds=1)


def micros(length: timedelta) -> int:
    """A length of time in whole microseconds."""
    return length // _MICROSECOND


def check(view: View) -> None:
    """Refuse a view whose values could depend on which rows are evaluated together.

    Raises:
        UserError: a row transform reads other rows, a window aggregate does not reduce to one value,
            an expression calls a Python function or selects columns by pattern, or a view over a
            table without event time asks for a window or a ttl.
    """
    for feature, definition in view.features.items():
        fault = _fault_of(definition)
        if fault:
            raise UserError(f"feature {feature!r} of view {view.name!r} {fault[0]}", fault[1])
        if isinstance(definition, WindowAggregate) and isinstance(view, FeatureView):
            _check_event_time(view)
    if isinstance(view, FeatureView):
        _check_shape(view)


def _check_event_time(view: FeatureView) -> None:
    if view.source.event_time is None:
        raise UserError(
            f"view {view.name!r} has windows, but its source {view.source.name!r} has no event time",
            "declare event_time on the table, or use row transforms",
        )


def _fault_of(definition: pl.Expr | PythonFeature | WindowAggregate) -> tuple[str, str] | None:
    if isinstance(definition, PythonFeature):
        return None
    if not isinstance(definition, WindowAggregate):
        return _fault(definition, windowed=False)
    where = definition.window.where
    if where is not None and (fault := _fault(where, windowed=False)):
        return f"has a filter that {fault[0]}", fault[1]
    return _fault(definition.value, windowed=definition.kind not in KINDS)


def _check_shape(view: FeatureView) -> None:
    kinds = {isinstance(f, WindowAggregate) for f in view.features.values()}
    if len(kinds) > 1:
        raise UserError(
            f"view {view.name!r} mixes row transforms and windows", "declare two views, one of each kind"
        )
    if view.ttl is not None and view.source.event_time is None:
        raise UserError(
            f"view {view.name!r} has a ttl, but its source {view.source.name!r} has no event time",
            "declare event_time on the table, or drop the ttl",
        )


def _fault(expr: pl.Expr, *, windowed: bool) -> tuple[str, str] | None:
    text = expr.meta.serialize(format="json")
    if '"AnonymousFunction"' in text:
        return "calls a Python function", "write it as a Polars expression, so that its inputs are known"
    if '"Selector"' in text:
        return "selects columns by pattern", "name every column"
    if windowed:
        if expr.meta.is_scalar():
            return None
        return f"does not reduce its window to one value: {expr}", "end it in an aggregate such as .mean()"
    if all(_row_by_row(part) for part in _parts(expr)):
        return None
    return (
        f"reads more than its own row: {expr}",
        "a row transform sees one row; use rp.window(...) for aggregates over several",
    )


def _parts(expr: pl.Expr) -> list[pl.Expr]:
    """The expression and all expressions inside it: Polars answers only for the outermost one."""
    found, open_ = [], [expr]
    while open_:
        part = open_.pop()
        found.append(part)
        open_.extend(part.meta.pop())
    return found


def _row_by_row(part: pl.Expr) -> bool:
    try:
        if part.meta.is_literal():
            return '"Series"' not in part.meta.serialize(format="json")
        return part.meta.is_row_separable() and part.meta.is_length_preserving()
    except PolarsError:
        return False


def describe(view: View) -> dict[str, Any]:
    """Everything that a value of the view depends on, as JSON-able data.

    The name, what is told to people and the place in the file are left out: they change no value. The
    serialized expressions are those of the installed Polars.
    """
    described: dict[str, Any] = {
        "kind": _KIND[type(view)],
        "name": view.kept_as if isinstance(view, FeatureView) else view.name,
        "source": None if view.source is None else _describe_table(view.source, view),
        "inputs": list(view.inputs),
        "features": [_describe_feature(name, definition) for name, definition in view.features.items()],
    }
    if isinstance(view, FeatureView):
        described["entity"] = list(view.entity)
        described["ttl_us"] = None if view.ttl is None else micros(view.ttl)
        described["defaults"] = {name: _plain(value) for name, value in view.defaults.items()}
    if isinstance(view, DerivedView):
        described["views"] = [describe_as_asked(one) for one in view.views]
    return described


def describe_as_asked(view: View) -> dict[str, Any]:
    """Everything that an answer of the view depends on: its description, and which columns ask.

    Views that share kept values under other names or for other asking columns differ here, and only here.
    """
    described = describe(view)
    if isinstance(view, FeatureView) and (view.join_keys or view.kept_as != view.name):
        described["as"] = view.name
        described["join_keys"] = dict(sorted(view.join_keys.items()))
        described["through"] = [describe_as_asked(one) for one in view.through]
    return described


def _plain(value: Any) -> Any:
    """A default as JSON-able data: a time or a date with its kind."""
    if isinstance(value, datetime):
        return {"timestamp": value.isoformat()}
    return {"date": value.isoformat()} if isinstance(value, date) else value


_KIND = {FeatureView: "feature_view", RequestView: "request_view", DerivedView: "derived_view"}


def _describe_table(source: Table, view: View) -> dict[str, Any]:
    entity = view.entity if isinstance(view, FeatureView) else ()
    used = sorted({*view.inputs, *entity})
    return {
        "name": source.name,
        "event_time": source.event_time,
        "known_at": source.known_at,
        "types": {c: source.columns[c].type for c in used if c in source.columns},
    }


def _describe_feature(name: str, definition: pl.Expr | PythonFeature | WindowAggregate) -> dict[str, Any]:
    if isinstance(definition, PythonFeature):
        return {
            "name": name,
            "python": hashlib.sha256(_code(name, definition).encode()).hexdigest(),
            "inputs": list(definition.inputs),
            "type": definition.type,
            "version": definition.version,
        }
    if isinstance(definition, WindowAggregate):
        window = definition.window
        return {
            "name": name,
            "window_us": micros(window.length),
            "every_us": None if window.every is None else micros(window.every),
            "where": None if window.where is None else expression(window.where),
            "aggregate": definition.kind,
            "q": definition.q,
            "expr": expression(definition.value),
        }
    return {"name": name, "expr": expression(definition)}


def _code(name: str, feature: PythonFeature) -> str:
    try:
        return textwrap.dedent(inspect.getsource(feature.function))
    except (OSError, TypeError) as error:
        raise UserError(
            f"the source code of feature {name!r} cannot be read: {error}",
            "write its function with def in the project's files: its code is part of the definition",
        ) from error


def expression(expr: pl.Expr) -> Any:
    """A Polars expression as JSON-able data."""
    return json.loads(expr.meta.serialize(format="json"))


def digest(view: View) -> str:
    """The SHA-256 of the description, in hex: equal in every process for an equal definition.

    It names the kept values; what a model depends on is `digest_as_asked`.
    """
    return digest_of(describe(view))


def digest_as_asked(view: View) -> str:
    """The SHA-256 of `describe_as_asked`, in hex; that of `digest` where nothing was renamed."""
    return digest_of(describe_as_asked(view))


def digest_of(described: Any) -> str:
    """The SHA-256 of JSON-able data, with its keys sorted, in hex."""
    return hashlib.sha256(orjson.dumps(described, option=orjson.OPT_SORT_KEYS)).hexdigest()


def source_columns(view: FeatureView) -> tuple[str, ...]:
    """The columns of the source that the view needs, system columns apart, each once."""
    times = (view.source.event_time, view.source.known_at)
    return tuple(dict.fromkeys([*view.entity, *(t for t in times if t), *view.inputs]))


def reach(view: FeatureView) -> timedelta:
    """How far before a question the rows lie that a window can see; 0 where there are only row transforms."""
    windows = (f.window for f in view.features.values() if isinstance(f, WindowAggregate))
    return max((w.length + (w.every or timedelta(0)) for w in windows), default=timedelta(0))

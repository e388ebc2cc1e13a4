"""Views made anew from their stored descriptions, so that an old model keeps its features.

Knows how a description is read back; it does not know where descriptions are kept (`versions`).
"""

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from io import StringIO
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from rayplat.core.errors import IntegrityError, UserError, Where
from rayplat.core.project.table import Column, Table
from rayplat.core.project.view import DerivedView, FeatureView, RequestView, View
from rayplat.core.project.window import Window, WindowAggregate

_NOWHERE = Where("a stored definition", 1)


def restore(described: Mapping[str, Any]) -> View:
    """A view from what `definition.describe_as_asked` told; describing it again gives the same.

    Owner, tags and what is required are not in a description, and a restored view has none. Its source has
    the columns that the view reads, and no key.

    Raises:
        UserError: a feature is a Python function, of which only the digest is stored.
        IntegrityError: the description cannot be read by the installed Polars.
    """
    name = str(described.get("as", described["name"]))
    features = {told["name"]: _definition(name, told) for told in described["features"]}
    source = None if described["source"] is None else _table(described["source"])
    if described["kind"] == "derived_view":
        views = tuple(restore(one) for one in described["views"])
        return DerivedView(name, views, source, features, "", _NOWHERE)
    if source is None:
        raise IntegrityError(
            f"the stored definition of view {name!r} has no source", "apply the project anew"
        )
    if described["kind"] == "request_view":
        return RequestView(name, source, features, "", _NOWHERE)
    ttl = described["ttl_us"]
    return FeatureView(
        name=name,
        source=source,
        entity=tuple(described["entity"]),
        features=features,
        ttl=None if ttl is None else timedelta(microseconds=ttl),
        description="",
        where=_NOWHERE,
        defaults={feature: _value(value) for feature, value in described["defaults"].items()},
        join_keys=dict(described.get("join_keys", {})),
        base=described["name"] if "as" in described else "",
        through=tuple(restore(one) for one in described.get("through", ())),
    )


def _table(told: Mapping[str, Any]) -> Table:
    return Table(
        name=told["name"],
        columns={name: Column(kind) for name, kind in told["types"].items()},
        key=(),
        event_time=told["event_time"],
        known_at=told["known_at"],
        source=None,
        checks=(),
        description="",
        where=_NOWHERE,
    )


def _definition(view: str, told: Mapping[str, Any]) -> Any:
    if "python" in told:
        raise UserError(
            f"feature {told['name']!r} of view {view!r} is a Python function; its code is not kept",
            "take the change back, or train and promote a model of the present definition",
        )
    value = _expression(view, told["expr"])
    if "aggregate" not in told:
        return value
    every = told["every_us"]
    window = Window(
        timedelta(microseconds=told["window_us"]),
        None if every is None else timedelta(microseconds=every),
        None if told["where"] is None else _expression(view, told["where"]),
    )
    return WindowAggregate(window, told["aggregate"], value, told["q"])


def _expression(view: str, told: Any) -> pl.Expr:
    try:
        return pl.Expr.deserialize(StringIO(json.dumps(told)), format="json")
    except (PolarsError, ValueError) as error:
        raise IntegrityError(
            f"the stored definition of view {view!r} is not one of Polars {pl.__version__}: {error}",
            "install the version of Polars that the model was trained with, or train anew",
        ) from error


def _value(told: Any) -> Any:
    if not isinstance(told, dict):
        return told
    kind, text = next(iter(told.items()))
    return datetime.fromisoformat(text) if kind == "timestamp" else date.fromisoformat(text)

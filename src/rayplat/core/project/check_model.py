"""What makes a declared model hold together: rows, label, features, periods, functions and gates.

Knows models and what they are made of; endpoints and monitors are checked beside it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rayplat.core.project.check_checks import check_expression
from rayplat.core.project.check_keys import same_kind
from rayplat.core.project.check_training import check_training
from rayplat.core.project.check_view import check_table_of
from rayplat.core.project.faults import Faults
from rayplat.core.project.feature_types import feature_types, whole
from rayplat.core.project.model import KINDS, METRICS, Gate, Label, Model
from rayplat.core.project.space import Space
from rayplat.core.project.table import Column, Table
from rayplat.core.project.view import DerivedView, FeatureView, RequestView, View, in_order

if TYPE_CHECKING:
    from rayplat.core.project.project import Project

_VIEWS = (FeatureView, RequestView, DerivedView)

BASELINES = ("base_rate", "gradient_boosting")
"""What a gate's `beats` may name."""


def check_model(model: Model, project: "Project", faults: Faults) -> None:
    """Note every fault of one model of the project."""
    where, name = model.where, f"model {model.name!r}"
    faults.name(where, "a model", model.name)
    if check_table_of(where, f"{name}: rows", model.rows, project.tables, faults):
        if model.rows.event_time is None:
            faults.add(
                where,
                f"{name}: its rows table {model.rows.name!r} has no event_time",
                "declare when each row asks",
            )
        _check_label(model, project, faults)
        _check_features(model, project, faults)
    _check_periods(model, faults)
    faults.takes(where, f"{name}: network", model.network, 1)
    faults.takes(where, f"{name}: the training function", model.train, 1)
    _check_workers(model, faults)
    faults.known(where, f"{name}: the kind", model.kind, KINDS)
    check_training(model, faults)
    _check_space(model, faults)
    faults.expect(where, f"{name}: seed", model.seed, int, "a whole number")
    if faults.expect(where, f"{name}: gates", model.gates, tuple, "a list of rp.Gate"):
        for gate in model.gates:
            _check_gate(model, gate, faults)


def _check_space(model: Model, faults: Faults) -> None:
    subject = f"model {model.name!r}: the space"
    if model.space is None or not faults.expect(model.where, subject, model.space, Space, "an rp.Space(…)"):
        return
    for fault in model.space.faults():
        faults.add(model.where, f"{subject}: {fault}", "correct the dimension")


def _check_label(model: Model, project: "Project", faults: Faults) -> None:
    where, subject = model.where, f"model {model.name!r}: the label"
    label: Any = model.label
    if not faults.expect(where, subject, label, Label, "an rp.Label(…)"):
        return
    if not check_table_of(where, f"{subject}'s source", label.source, project.tables, faults):
        return
    if label.source.event_time is None:
        faults.add(
            where,
            f"{subject}'s source {label.source.name!r} has no event_time",
            "declare when an outcome happened: a label must not be known before it",
        )
    check_expression(where, subject, label.value, label.source, faults, boolean=True)
    if not isinstance(label.on, str | tuple | list):
        faults.expect(where, f"{subject}: on", label.on, tuple, "a column's name or several")
        return
    if not label.keys:
        faults.add(where, f"{subject} has no columns in `on`", "name the columns that join it to the rows")
    for key in label.keys:
        there = [
            faults.known(where, f"{subject}: in {table.name!r} the column", key, table.columns)
            for table in (model.rows, label.source)
        ]
        if all(there):
            _check_same_type(model, subject, key, label.source, faults)


def _check_same_type(model: Model, subject: str, column: str, other: Table, faults: Faults) -> None:
    left, right = model.rows.columns[column], other.columns[column]
    if isinstance(left, Column) and isinstance(right, Column) and left.type != right.type:
        faults.add(
            model.where,
            f"{subject}: {column!r} is {left.type} in {model.rows.name!r} and {right.type} in {other.name!r}",
            "declare the same type in both tables",
        )


def _check_features(model: Model, project: "Project", faults: Faults) -> None:
    where, name = model.where, f"model {model.name!r}"
    if not faults.expect(where, f"{name}: features", model.features, tuple, "a list of views"):
        return
    if not model.features:
        faults.add(where, f"{name} has no features", "list the views that it reads")
    faults.unique(
        f"view of {name}",
        [(v.name, where) for v in model.features if isinstance(v, View)],
    )
    for view in model.features:
        if not faults.expect(where, f"{name}: a feature", view, _VIEWS, "a view"):
            continue
        if not any(view is own for own in project.views):
            faults.add(
                where,
                f"{name}: view {view.name!r} is of another project",
                "use what project.feature_view(…) or project.add_view(…) returned",
            )
        elif isinstance(view.features, Mapping):
            _check_numbers(model, view, faults)
    own = [v for v in model.features if any(v is one for one in project.views)]
    for view in in_order(v for v in own if whole(v)):
        if not isinstance(view, FeatureView):
            _check_asking(model, view, faults)
        else:
            _check_entity(model, view, faults)


def _check_numbers(model: Model, view: View, faults: Faults) -> None:
    """A network reads numbers: a feature of another type is for people and other services alone."""
    import polars as pl

    if not whole(view):
        return
    for name, dtype in feature_types(view).items():
        if dtype.is_numeric() or dtype == pl.Boolean:
            continue
        mend = "turn it into a number in the view: compare, cast or count"
        if isinstance(dtype, pl.List):
            mend = 'a vector is several inputs: expand it in a view, {f"v{i}": pl.col("v").list.get(i) …}'
        faults.add(model.where, f"model {model.name!r}: feature {name!r} gives {dtype}, not a number", mend)


def _check_asking(model: Model, view: RequestView | DerivedView, faults: Faults) -> None:
    if view.source is not None and view.source is not model.rows:
        source = getattr(view.source, "name", view.source)
        faults.add(
            model.where,
            f"model {model.name!r}: view {view.name!r} is of rows of {source!r}, not {model.rows.name!r}",
            "the source of a request view or an on-demand view is the table whose rows ask",
        )


def _check_entity(model: Model, view: FeatureView, faults: Faults) -> None:
    subject = f"model {model.name!r}: view {view.name!r}"
    features = {name for one in view.through for name in one.names}
    for column, asks in zip(view.entity, view.asks, strict=True):
        if asks in features:
            continue  # its type is checked with the view
        asked = f"{subject}: in {model.rows.name!r} the entity column"
        if faults.known(model.where, asked, asks, model.rows.columns) and column in view.source.columns:
            _check_same_entity(model, view, column, asks, faults)


def _check_same_entity(model: Model, view: FeatureView, column: str, asks: str, faults: Faults) -> None:
    have, want = model.rows.columns[asks], view.source.columns[column]
    if isinstance(have, Column) and isinstance(want, Column) and not same_kind(have, want):
        faults.add(
            model.where,
            f"model {model.name!r}: view {view.name!r}: {asks!r} is {have.type} in {model.rows.name!r} and "
            f"{column!r} is {want.type} in {view.source.name!r}",
            "declare the same type in both tables",
        )


def _check_periods(model: Model, faults: Faults) -> None:
    where, name = model.where, f"model {model.name!r}"
    wanted = "a time such as '2013-07-01'"
    good = [
        faults.expect(where, f"{name}: {field}", getattr(model, field), datetime, wanted)
        for field in ("train_until", "test_until")
    ]
    if all(good) and model.train_until >= model.test_until:
        faults.add(
            where,
            f"{name}: train_until {model.train_until:%Y-%m-%d %H:%M} is not before "
            f"test_until {model.test_until:%Y-%m-%d %H:%M}",
            "rows from train_until to test_until are the test: leave some",
        )


def _check_workers(model: Model, faults: Faults) -> None:
    workers: Any = model.workers
    good = (
        isinstance(workers, tuple | list)
        and len(workers) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) for n in workers)
        and 1 <= workers[0] <= workers[1]
    )
    if not good:
        faults.add(
            model.where,
            f"model {model.name!r}: workers is {workers!r}",
            "give the least and the most, 1 or more: (1, 2)",
        )


def _check_gate(model: Model, gate: Any, faults: Faults) -> None:
    where, subject = model.where, f"model {model.name!r}: a gate"
    if not faults.expect(where, subject, gate, Gate, "an rp.Gate(…)"):
        return
    faults.known(where, f"{subject}: the metric", gate.metric, METRICS)
    subject = f"model {model.name!r}: the gate on {gate.metric!r}"
    if gate.at_least is None and gate.at_most is None and gate.beats is None:
        faults.add(where, f"{subject} has no bound", "give at_least, at_most or beats")
    numbers = [
        faults.expect(where, f"{subject}: {bound}", getattr(gate, bound), (int, float), "a number")
        for bound in ("at_least", "at_most")
        if getattr(gate, bound) is not None
    ]
    if len(numbers) == 2 and all(numbers) and (gate.at_least or 0) > (gate.at_most or 0):
        faults.add(where, f"{subject}: at_least {gate.at_least} is over at_most {gate.at_most}", "swap them")
    if gate.beats is not None:
        faults.known(where, f"{subject}: the baseline", gate.beats, BASELINES)

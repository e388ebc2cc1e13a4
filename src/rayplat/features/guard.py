"""The leakage guard: what a training set refuses, before it is built and once its rows are known.

Knows what a question may know of its outcome; it does not know how a training set is put together, nor
features that are merely too good (`suspects`).

What the point-in-time join makes impossible is not checked again: a source row with an event time or a known
time after the question never answers. What is left are the ways around the join: a declaration that hides
when a row is known, a view that reads the asking row, and a question that is asked when the answer is out.
"""

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.model import Model
from rayplat.core.project.view import DerivedView, FeatureView, RequestView, View, in_order
from rayplat.features.plan import plan

RESERVED = ("at", "label", "split")
"""The columns that a training set has beside keys and features."""


def guard(model: Model) -> None:
    """Refuse a model whose features could know the label.

    A feature view over the label's source must go through its declared `known_at`, so that an outcome is
    seen only from when it was known. A view of the asking row may not read the label's source at all: the
    asking row would carry its own outcome. Views that others are derived from are held to the same.

    Raises:
        UserError: a feature leaks, or the declaration cannot make a training set.
    """
    label = model.label.source
    for view in all_views(model):
        plan(view)
        if not isinstance(view, FeatureView):
            _guard_asking(model, view)
        elif view.source.name == label.name and view.source.known_at is None:
            raise UserError(
                f"view {view.name!r} reads {label.name!r}, which tells the label of model "
                f"{model.name!r}, and the table does not say when its rows are known",
                f"declare known_at on {label.name!r}",
            )
    if label.told_by is None or model.rows.event_time is None:
        bare = model.rows if model.rows.event_time is None else label
        raise UserError(
            f"table {bare.name!r} of model {model.name!r} has no event time",
            f"declare event_time on {bare.name!r}",
        )
    taken = sorted({*RESERVED, *model.feature_names} & set(model.rows.key))
    if taken:
        raise UserError(
            f"key columns {taken} of {model.rows.name!r} have names that a training set uses", "rename them"
        )


def all_views(model: Model) -> list[View]:
    """The views of a model and those that they are derived from, each once."""
    return list(in_order(model.features))


def columns_of(view: View) -> dict[str, tuple[str, ...]]:
    """By feature of a view, the columns that it is made of, as `table.column`, sorted."""
    upstream: dict[str, tuple[str, ...]] = {}
    if isinstance(view, DerivedView):
        for one in view.views:
            upstream |= columns_of(one)
    found = {}
    for name, definition in zip(view.names, view.features.values(), strict=True):
        read = set(definition.meta.root_names() if isinstance(definition, pl.Expr) else definition.inputs)
        own = {c if view.source is None else f"{view.source.name}.{c}" for c in read - set(upstream)}
        found[name] = tuple(sorted(own.union(*(upstream[c] for c in read & set(upstream)))))
    return found


def _guard_asking(model: Model, view: RequestView | DerivedView) -> None:
    if view.source is None:
        return
    what = "request view" if isinstance(view, RequestView) else "on-demand view"
    if view.source.name == model.label.source.name:
        raise UserError(
            f"{what} {view.name!r} reads {view.source.name!r}, which tells the label of "
            f"model {model.name!r}: the answer would be among the inputs",
            "read it through a feature view, which sees only what was known before",
        )
    if view.source.name != model.rows.name:
        raise UserError(
            f"{what} {view.name!r} reads {view.source.name!r}, but the rows of "
            f"model {model.name!r} are {model.rows.name!r}",
            f"declare it over {model.rows.name!r}",
        )


def guard_questions(model: Model, asked: pl.DataFrame) -> None:
    """Refuse asking rows whose columns were not known yet when they ask.

    Where the table declares `known_at`, a row that became known after its event time asks at a time when
    only its key and its event time were there. A view of the asking row that reads more would read ahead.

    Args:
        model: the model.
        asked: the asking rows, with the times that the table declares.

    Raises:
        UserError: a view reads ahead.
    """
    event, known = str(model.rows.event_time), model.rows.known_at
    if known is None or known == event:
        return
    safe = {*model.rows.key, event}
    ahead = {v.name: sorted(set(v.inputs) - safe) for v in all_views(model) if not isinstance(v, FeatureView)}
    reading = {name: columns for name, columns in ahead.items() if columns}
    late = asked.filter(pl.col(known) > pl.col(event))
    if reading and not late.is_empty():
        first = late.row(0, named=True)
        raise UserError(
            f"{late.height} of {asked.height} rows of {model.rows.name!r} were known only after they ask "
            f"(one at {first[event]}, known at {first[known]}), and views read their columns: {reading}",
            "ask when the row is known (event_time=known_at), or read the columns through a feature view",
        )


def guard_labels(model: Model, labelled: pl.DataFrame, known: str) -> None:
    """Refuse questions that are asked when their own outcome is known.

    Args:
        model: the model.
        labelled: the asking rows that have a label.
        known: the column with the time at which the outcome was first known.

    Raises:
        UserError: the outcome of a question was known at its time.
    """
    event = str(model.rows.event_time)
    over = labelled.filter(pl.col(known) <= pl.col(event))
    if not over.is_empty():
        first = over.row(0, named=True)
        key = {c: first[c] for c in model.rows.key}
        raise UserError(
            f"{over.height} of {labelled.height} questions of model {model.name!r} are asked when the label "
            f"is known: {key} asks at {first[event]}, and {model.label.source.name!r} told at {first[known]}",
            "ask earlier (another event_time of the rows), or take these rows out",
        )

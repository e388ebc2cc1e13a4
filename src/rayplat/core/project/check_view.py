"""What makes a declared view hold together: its names, its source and its features.

Knows views and what they read; entities and windows are checked beside it, and so are models.
"""

import inspect
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from rayplat.core.project.check_checks import check_expression_over
from rayplat.core.project.check_keys import check_keys
from rayplat.core.project.check_type import check_type
from rayplat.core.project.check_window import check_window
from rayplat.core.project.faults import Faults
from rayplat.core.project.feature_types import readable_columns, whole
from rayplat.core.project.table import Column, Table
from rayplat.core.project.view import DerivedView, FeatureView, PythonFeature, View
from rayplat.core.project.window import WindowAggregate

if TYPE_CHECKING:
    from rayplat.core.project.project import Project

_FEATURE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def check_view(view: View, project: "Project", faults: Faults) -> None:
    """Note every fault of one view of the project."""
    where, name = view.where, f"view {view.name!r}"
    faults.name(where, "a view", view.name)
    _check_separator(view, name, view.name, faults)
    _check_told(view, faults)
    readable = _check_source(view, project, faults)
    if not faults.expect(where, f"{name}: features", view.features, Mapping, "a dict of name to expression"):
        return
    if not view.features:
        faults.add(where, f"{name} has no features", 'declare them: features={"gusty": pl.col("wind") > 25}')
    columns = readable_columns(view) if readable else None
    for feature, definition in view.features.items():
        faults.name(where, f"a feature of {name}", feature, _FEATURE)
        _check_separator(view, f"{name}: feature {feature!r}", feature, faults)
        if columns is not None:
            _check_feature(view, f"{name}: feature {feature!r}", definition, columns, faults)
    _check_one_kind(view, faults)
    if isinstance(view, FeatureView) and readable:
        check_keys(view, project, faults)


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


def _check_source(view: View, project: "Project", faults: Faults) -> bool:
    """Note faults of what the view reads; whether its features can be looked at."""
    where, name = view.where, f"view {view.name!r}"
    good = True
    if not (isinstance(view, DerivedView) and view.source is None):
        good = check_table_of(where, f"{name}: source", view.source, project.tables, faults)
    if not isinstance(view, DerivedView):
        return good
    if not faults.expect(where, f"{name}: views", view.views, tuple, "a list of views"):
        return False
    if not view.views:
        faults.add(where, f"{name} is made of no view", "list the views whose features it reads")
    views: tuple[Any, ...] = view.views
    for one in views:
        kinds = (FeatureView, DerivedView)
        if not faults.expect(where, f"{name}: a view that it is made of", one, kinds, "a feature view"):
            good = False
        elif not any(one is own for own in project.views):
            good = False
            faults.add(
                where,
                f"{name}: view {one.name!r} is no view of the project",
                "use what project.feature_view(…) or project.add_view(…) returned",
            )
        elif not whole(one):
            good = False  # told at that view
    return good


def _check_told(view: View, faults: Faults) -> None:
    where, name = view.where, f"view {view.name!r}"
    faults.expect(where, f"{name}: owner", view.owner, str, "an address that people can write to")
    faults.expect(where, f"{name}: description", view.description, str, "text")
    if not faults.expect(where, f"{name}: tags", view.tags, Mapping, "a dict of text to text"):
        return
    tags: Mapping[Any, Any] = view.tags
    for tag, value in tags.items():
        if not (isinstance(tag, str) and isinstance(value, str)):
            faults.add(where, f"{name}: the tag {tag!r}: {value!r} is not text", "give text for both: str(…)")


def _check_separator(view: View, subject: str, name: Any, faults: Faults) -> None:
    if isinstance(name, str) and "__" in name:
        faults.add(
            view.where,
            f"{subject} has two underscores in a row",
            "they part view and feature in full names: use one",
        )


def _check_feature(
    view: View, subject: str, definition: Any, columns: Mapping[str, Column], faults: Faults
) -> None:
    if isinstance(definition, PythonFeature):
        _check_python(view, subject, definition, columns, faults)
    elif not isinstance(definition, WindowAggregate):
        over = "what it may read" if view.source is None else view.source.name
        check_expression_over(view.where, subject, definition, columns, over, faults)
    elif isinstance(view, FeatureView):
        check_window(view, subject, definition, faults)
    else:
        faults.add(
            view.where,
            f"{subject} is a window aggregate, in a view of the asking row",
            "put it into a feature_view",
        )


def _check_python(
    view: View, subject: str, feature: PythonFeature, columns: Mapping[str, Column], faults: Faults
) -> None:
    where = view.where
    faults.expect(where, f"{subject}: version", feature.version, str, "text")
    if faults.expect(where, f"{subject}: type", feature.type, str, "a column type"):
        check_type(where, f"{subject}: the type", feature.type, faults)
    for column in feature.inputs:
        faults.known(where, f"{subject}: the input", column, columns)
    if not feature.inputs:
        faults.add(where, f"{subject} has no inputs", 'name the columns that it reads: inputs=("a", "b")')
    if not faults.takes(where, f"{subject}: the function", feature.function, max(1, len(feature.inputs))):
        return
    try:
        inspect.getsource(feature.function)
    except (OSError, TypeError):
        faults.add(
            where,
            f"{subject}: the source code of its function cannot be read",
            "write it with def in the project's files: its code is part of the definition",
        )


def _check_one_kind(view: View, faults: Faults) -> None:
    windowed = [name for name, f in view.features.items() if isinstance(f, WindowAggregate)]
    rows = [name for name in view.features if name not in windowed]
    if isinstance(view, FeatureView) and windowed and rows:
        faults.add(
            view.where,
            f"view {view.name!r} mixes window features ({windowed[0]!r}) and row features ({rows[0]!r})",
            "declare two views over the same source",
        )

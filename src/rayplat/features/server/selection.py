"""Which views and columns a question is about, and which project they are taken from.

Knows the names of a project's views, features and models; it does not know how they are answered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayplat.core.project.project import Project
from rayplat.core.project.view import View
from rayplat.features.requests import request_columns
from rayplat.features.server.faults import RefusedError
from rayplat.features.server.requests import Asked

_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer.

    Attributes:
        view: the view that has it.
        place: its position among the view's features.
        full: `view__feature`, as frames name it.
        name: as the answer names it.
    """

    view: View
    place: int
    full: str
    name: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Views to ask, and the columns to tell."""

    views: tuple[View, ...]
    columns: tuple[Column, ...]


class Selections:
    """Works selections out, each once.

    Args:
        project: whose views are asked for.
    """

    def __init__(self, project: Project) -> None:
        self.views: Mapping[str, View] = {view.name: view for view in project.views}
        self._services: Mapping[str, Sequence[View]] = {m.name: m.features for m in project.models}
        self._known: dict[tuple[object, ...], Selection] = {}

    def of(self, asked: Asked) -> Selection:
        """What a question is about.

        Raises:
            RefusedError: a view, feature, model or entity column is not known, or two columns have one name.
        """
        key = (asked.features, asked.service, asked.columns, asked.full_names)
        found = self._known.get(key)
        if found is None:
            found = self._work_out(asked)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = found
        return found

    def view(self, name: str) -> View:
        """A view.

        Raises:
            RefusedError: there is none of that name.
        """
        if name not in self.views:
            raise RefusedError(404, f"there is no view {name[:100]!r}; there is: {', '.join(self.views)}")
        return self.views[name]

    def _work_out(self, asked: Asked) -> Selection:
        wanted = self._service(asked.service) if asked.service else self._named(asked.features)
        columns = tuple(
            Column(
                view,
                list(view.features).index(feature),
                f"{view.name}__{feature}",
                f"{view.name}__{feature}" if asked.full_names else feature,
            )
            for view, feature in wanted
        )
        views = tuple({view.name: view for view, _ in wanted}.values())
        names = [*asked.columns, *(column.name for column in columns)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RefusedError(422, f"columns {twice} would stand twice; ask with full_feature_names: true")
        known = request_columns(views)
        unknown = [name for name in asked.columns if name not in known]
        if unknown:
            raise RefusedError(422, f"no view takes the columns {unknown}; they take: {', '.join(known)}")
        return Selection(views, columns)

    def _service(self, name: str) -> list[tuple[View, str]]:
        if name not in self._services:
            raise RefusedError(
                404, f"there is no model {name[:100]!r}; there is: {', '.join(self._services) or 'none'}"
            )
        return [(view, feature) for view in self._services[name] for feature in view.features]

    def _named(self, names: Sequence[str]) -> list[tuple[View, str]]:
        found: list[tuple[View, str]] = []
        for name in names:
            view_name, colon, feature = name.partition(":")
            view = self.view(view_name)
            if colon and feature not in view.features:
                has = ", ".join(view.features)
                raise RefusedError(404, f"view {view_name!r} has no feature {feature[:100]!r}; it has: {has}")
            found += [(view, one) for one in ([feature] if colon else view.features)]
        return found

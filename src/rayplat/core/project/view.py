"""Feature views as they are declared: Polars expressions over a table, a window, a request or other views.

Knows the definition and its input columns; it does not know how values are computed or kept.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rayplat.core.errors import Where
from rayplat.core.project.expressions import renamed
from rayplat.core.project.table import Table
from rayplat.core.project.window import WindowAggregate

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class PythonFeature:
    """A row transform by a Python function, whose inputs must be declared because nobody can see into it.

    Attributes:
        function: gets one Polars series an input, all of one length, and gives a series of that length.
        inputs: the columns that it reads.
        type: of the values: a column type.
        version: a new one says that the function gives other values, beside a change of its source code.
    """

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    type: str
    version: str = ""


def python(
    function: Callable[..., Any],
    *,
    inputs: str | tuple[str, ...] | list[str],
    type: str,  # noqa: A002  # as the attribute that it becomes
    version: str = "",
) -> PythonFeature:
    """A feature by a Python function; see `PythonFeature`. A Polars expression is faster and tells more."""
    names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    return PythonFeature(function, names, type, version)


def reads(definition: "pl.Expr | PythonFeature | WindowAggregate") -> set[str]:
    """The columns that a definition reads."""
    if isinstance(definition, WindowAggregate | PythonFeature):
        return set(definition.inputs)
    return set(definition.meta.root_names())


def over_other_names(definition: Any, names: Mapping[str, str]) -> Any:
    """The same transform over columns of other names; what is none comes back as it is."""
    if isinstance(definition, PythonFeature):
        return replace(definition, inputs=tuple(names.get(column, column) for column in definition.inputs))
    if not hasattr(definition, "meta"):
        return definition
    return renamed(definition, names)


@dataclass(frozen=True, slots=True)
class FeatureView:
    """Features of an entity from a table. Made by `Project.feature_view`.

    A view holds either row transforms (the last known row of the entity, transformed) or window
    aggregates (over the entity's rows before the question), not both.

    Attributes:
        entity: the columns that name the entity in the source.
        ttl: a row transform's row older than this gives null; None keeps it for ever.
        defaults: by feature, the value that stands for null when served and trained; a feature without one
            stays null.
        required: features whose absence is an error when served, instead of null.
        join_keys: by entity column of the source, the column of the asking rows that names it (where it is
            another one); it may be a feature of another view by its full name.
        base: the name of the view that keeps the values, where this one is the same under other names.
        through: the views whose features name the entity, where `join_keys` says so.
    """

    name: str
    source: Table
    entity: tuple[str, ...]
    features: "Mapping[str, pl.Expr | PythonFeature | WindowAggregate]"
    ttl: timedelta | None
    description: str
    where: Where = field(compare=False)
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    join_keys: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    through: "tuple[View, ...]" = ()

    @property
    def windowed(self) -> bool:
        """Whether the features are window aggregates."""
        return any(isinstance(f, WindowAggregate) for f in self.features.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The full names of the features, `view__feature`, in declared order."""
        return tuple(f"{self.name}__{feature}" for feature in self.features)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The source columns that the features read, sorted; computed from the expressions."""
        return tuple(sorted({column for f in self.features.values() for column in reads(f)}))

    @property
    def asks(self) -> tuple[str, ...]:
        """The columns of the asking rows that name the entity, in the order of `entity`."""
        return tuple(self.join_keys.get(column, column) for column in self.entity)

    @property
    def kept_as(self) -> str:
        """The name under which the values are kept online."""
        return self.base or self.name

    def with_name(self, name: str) -> "FeatureView":
        """The same features under another name; the values are kept once.

        `Project.add_view` makes it a view of the project.
        """
        return replace(self, name=name, base=self.kept_as)

    def with_join_key_map(self, join_keys: Mapping[str, str]) -> "FeatureView":
        """The same features of the entity that other columns of the asking rows name.

        Args:
            join_keys: by entity column of the source, the asking column, such as `{"origin": "dest"}`.
        """
        return replace(self, join_keys={**self.join_keys, **join_keys}, base=self.kept_as)


@dataclass(frozen=True, slots=True)
class RequestView:
    """Features of the asking row itself. Made by `Project.request_view`.

    In training the asking row is a row of the model's `rows` table; when served it is the request.
    """

    name: str
    source: Table
    features: "Mapping[str, pl.Expr | PythonFeature]"
    description: str
    where: Where = field(compare=False)
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The full names of the features, `view__feature`, in declared order."""
        return tuple(f"{self.name}__{feature}" for feature in self.features)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the asking row that the features read, sorted."""
        return tuple(sorted({c for f in self.features.values() for c in reads(f)}))


@dataclass(frozen=True, slots=True)
class DerivedView:
    """Features made of other views' features, and of the asking row. Made by `Project.on_demand_view`.

    Attributes:
        views: the views whose features are read, by their full names (`view__feature`).
        source: the table whose rows ask, where columns of the asking row are read too; else None.
        features: row transforms over full names of features and columns of the asking row.
    """

    name: str
    views: "tuple[View, ...]"
    source: Table | None
    features: "Mapping[str, pl.Expr | PythonFeature]"
    description: str
    where: Where = field(compare=False)
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The full names of the features, `view__feature`, in declared order."""
        return tuple(f"{self.name}__{feature}" for feature in self.features)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the asking row that the features read, sorted."""
        upstream = {name for view in self.views for name in view.names}
        return tuple(sorted({c for f in self.features.values() for c in reads(f)} - upstream))


View = FeatureView | RequestView | DerivedView
TableView = FeatureView | RequestView


def upstream(view: View) -> tuple[View, ...]:
    """The views whose features this one reads, or that name its entity."""
    if isinstance(view, RequestView):
        return ()
    return view.views if isinstance(view, DerivedView) else view.through


def in_order(views: Iterable[View]) -> tuple[View, ...]:
    """The views and those that they are made of, each name once, those that others need before them."""
    found: dict[str, View] = {}
    for view in views:
        for needed in (*in_order(upstream(view)), view):
            found.setdefault(needed.name, needed)
    return tuple(found.values())


def asking_columns(views: Iterable[View]) -> tuple[str, ...]:
    """The columns that asking rows must have for these views, each once.

    Entity columns (by the names of the asking rows) and what request and on-demand views read of the asking
    row; features of other views are not among them.
    """
    ordered = in_order(views)
    features = {name for view in ordered for name in view.names}
    columns = (c for v in ordered for c in (v.asks if isinstance(v, FeatureView) else v.inputs))
    return tuple(dict.fromkeys(c for c in columns if c not in features))

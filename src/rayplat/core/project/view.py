"""Feature views as they are declared: Polars expressions over a table, a window or a request.

Knows the definition and its input columns; it does not know how values are computed or kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rayplat.core.errors import UserError, Where
from rayplat.core.project.table import Table

if TYPE_CHECKING:
    import polars as pl

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_length(text: str) -> timedelta:
    """Read a length of time such as `30m`, `3h` or `7d`.

    Raises:
        UserError: the text is no such length.
    """
    unit = _UNITS.get(text[-1:]) if isinstance(text, str) else None
    if unit is None or not text[:-1].isdigit() or int(text[:-1]) == 0:
        raise UserError(f"{text!r} is not a length of time", "write a number and s, m, h or d: '3h'")
    return timedelta(**{unit: int(text[:-1])})


@dataclass(frozen=True, slots=True)
class WindowAggregate:
    """An aggregate over the rows whose event time lies in (t - length, t] and that are known at t.

    Attributes:
        length: the length of the window.
        aggregate: a Polars expression that reduces a group to one value.
    """

    length: timedelta
    aggregate: "pl.Expr"


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window by event time; its methods make aggregates. Made by `window`."""

    length: timedelta

    def agg(self, aggregate: "pl.Expr") -> WindowAggregate:
        """Any Polars aggregate, such as `(pl.col("delay") > 15).mean()`."""
        return WindowAggregate(self.length, aggregate)

    def mean(self, column: str) -> WindowAggregate:
        """The mean of the values that are not null; null where there is none."""
        import polars as pl

        return WindowAggregate(self.length, pl.col(column).mean())

    def sum(self, column: str) -> WindowAggregate:
        """The sum of the values that are not null; 0 where there is none."""
        import polars as pl

        return WindowAggregate(self.length, pl.col(column).sum())

    def min(self, column: str) -> WindowAggregate:
        """The least value; null where there is none."""
        import polars as pl

        return WindowAggregate(self.length, pl.col(column).min())

    def max(self, column: str) -> WindowAggregate:
        """The greatest value; null where there is none."""
        import polars as pl

        return WindowAggregate(self.length, pl.col(column).max())

    def count(self, column: str) -> WindowAggregate:
        """How many values are not null; 0 where there is none."""
        import polars as pl

        return WindowAggregate(self.length, pl.col(column).count())


def window(length: str) -> Window:
    """A sliding window such as `window("3h")`, ending at the time of the question.

    A text that is no length stays as it is: the project's validation reports it with its place.
    """
    try:
        return Window(parse_length(length))
    except UserError:
        return Window(length)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class FeatureView:
    """Features of an entity from a table. Made by `Project.feature_view`.

    A view holds either row transforms (the last known row of the entity, transformed) or window
    aggregates (over the entity's rows before the question), not both.

    Attributes:
        entity: the columns that name the entity, in the source and in the asking rows alike.
        ttl: a row transform's row older than this gives null; None keeps it for ever.
    """

    name: str
    source: Table
    entity: tuple[str, ...]
    features: "Mapping[str, pl.Expr | WindowAggregate]"
    ttl: timedelta | None
    description: str
    where: Where = field(compare=False)

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
        exprs = (f.aggregate if isinstance(f, WindowAggregate) else f for f in self.features.values())
        return tuple(sorted({column for e in exprs for column in e.meta.root_names()}))


@dataclass(frozen=True, slots=True)
class RequestView:
    """Features of the asking row itself. Made by `Project.request_view`.

    In training the asking row is a row of the model's `rows` table; when served it is the request.
    """

    name: str
    source: Table
    features: "Mapping[str, pl.Expr]"
    description: str
    where: Where = field(compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The full names of the features, `view__feature`, in declared order."""
        return tuple(f"{self.name}__{feature}" for feature in self.features)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the asking row that the features read, sorted."""
        return tuple(sorted({c for e in self.features.values() for c in e.meta.root_names()}))


View = FeatureView | RequestView

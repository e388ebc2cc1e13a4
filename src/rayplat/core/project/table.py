"""Tables as they are declared: columns, keys, times, sources and checks.

Knows what a table promises; it does not know how the lakehouse keeps the promise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rayplat.core.errors import Where

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

COLUMN_TYPES = ("string", "int64", "float64", "bool", "timestamp")
"""The types a column may have. `timestamp` is UTC, in microseconds."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Args:
        type: one of `COLUMN_TYPES`.
        nullable: whether a value may be missing. Key and time columns may not.
        unit: the unit of the values, such as `min` or `kn`.
        pii: whether the values are personal data.
        description: what a value means, for people.
    """

    type: str
    nullable: bool = True
    unit: str = ""
    pii: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Kafka:
    """A table is fed by a Kafka topic of JSON objects, one a record.

    Args:
        topic: the topic's name.
        partitions: how many partitions the development broker gives the topic.
        replay: for the laptop: a function that returns an Arrow table with the table's declared
            columns. Its rows are told to the development broker in the order in which the world
            would have told them: by `known_at` (or the event time), always in the same order.
    """

    topic: str
    partitions: int = 2
    replay: "Callable[[], pa.Table] | None" = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A table is small reference data, read whole by a function that returns an Arrow table.

    It is written again only when its content changes (by digest).
    """

    read: "Callable[[], pa.Table]"


@dataclass(frozen=True, slots=True)
class Check:
    """A row is good when `good` is true. A row that fails goes to the quarantine with `reason`."""

    column: str
    reason: str
    good: "pl.Expr"


def in_range(column: str, low: float, high: float) -> Check:
    """Values lie in [low, high]; null is good (see `not_null`)."""
    import polars as pl

    good = pl.col(column).is_between(low, high) | pl.col(column).is_null()
    return Check(column, f"{column} is not in [{low}, {high}]", good)


def one_of(column: str, values: Sequence[Any]) -> Check:
    """Values are members of `values`; null is good (see `not_null`)."""
    import polars as pl

    good = pl.col(column).is_in(list(values)) | pl.col(column).is_null()
    return Check(column, f"{column} is not one of {len(values)} allowed values", good)


def not_null(column: str) -> Check:
    """A value is there. (A column declared `nullable=False` has this check already.)"""
    import polars as pl

    return Check(column, f"{column} is missing", pl.col(column).is_not_null())


@dataclass(frozen=True, slots=True)
class Table:
    """A declared table. Made by `Project.table`.

    Attributes:
        name: `namespace.name` in the catalog, such as `raw.departures`.
        key: the columns whose values together name a row.
        event_time: the column that says when it happened (timestamp).
        known_at: the column that says when it could be known; the event time where not given.
    """

    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    event_time: str | None
    known_at: str | None
    source: Kafka | Reference | None
    checks: tuple[Check, ...]
    description: str
    where: Where = field(compare=False)

    @property
    def told_by(self) -> str | None:
        """The column by which a row becomes known: `known_at`, or else the event time."""
        return self.known_at or self.event_time

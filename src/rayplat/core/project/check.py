"""Checks: what a table promises of its rows, and of itself as a whole.

Knows the declarations; it does not know how a check is carried out (see `rayplat.data.quality`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

ON_FAIL = ("quarantine", "warn", "stop")
"""What a failed check may lead to: rows set aside, a warning, or no commit at all."""


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


def matches(column: str, pattern: str) -> Check:
    """Texts match a regular expression (Rust syntax, anywhere in the text); null is good."""
    import polars as pl

    good = pl.col(column).str.contains(pattern) | pl.col(column).is_null()
    return Check(column, f"{column} does not match {pattern}", good)


@dataclass(frozen=True, slots=True)
class Unique:
    """No two rows of the table have the same values in `columns`.

    With `quarantine` the first row by source order stays and the later ones are set aside.
    """

    columns: tuple[str, ...]
    on_fail: str = "quarantine"


@dataclass(frozen=True, slots=True)
class References:
    """Every value of `column` (null excepted) is in the column `to` of another table, as it is now."""

    column: str
    table: str
    to: str
    on_fail: str = "quarantine"


@dataclass(frozen=True, slots=True)
class Fresh:
    """The newest event time of the table is at most `within` old."""

    within: timedelta
    on_fail: str = "warn"


@dataclass(frozen=True, slots=True)
class Volume:
    """The rows of the last 24 hours by commit time are between `low` and `high` times those before them.

    Checked once the table has rows that are a day old.
    """

    low: float
    high: float
    on_fail: str = "warn"


@dataclass(frozen=True, slots=True)
class Distribution:
    """A column's values are distributed as those of the 24 hours before, by the event time.

    Args:
        psi: the greatest population stability index that passes; 0.2 is a usual bound.
    """

    column: str
    psi: float = 0.2
    on_fail: str = "warn"


TableCheck = Unique | References | Fresh | Volume | Distribution
"""A check that a row alone cannot answer."""


def unique(columns: str | Sequence[str], on_fail: str = "quarantine") -> Unique:
    """No two rows have the same values in these columns."""
    return Unique((columns,) if isinstance(columns, str) else tuple(columns), on_fail)


def references(column: str, table: str, to: str, on_fail: str = "quarantine") -> References:
    """Every value of `column` is in the column `to` of `table`."""
    return References(column, table, to, on_fail)


def fresh(within: timedelta, on_fail: str = "warn") -> Fresh:
    """The newest event is at most `within` old."""
    return Fresh(within, on_fail)


def volume(low: float, high: float, on_fail: str = "warn") -> Volume:
    """As many rows as the day before, between `low` and `high` times."""
    return Volume(low, high, on_fail)


def distribution(column: str, psi: float = 0.2, on_fail: str = "warn") -> Distribution:
    """Distributed as the day before, by the population stability index."""
    return Distribution(column, psi, on_fail)

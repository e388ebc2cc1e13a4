"""What was given in a declaration, in the form that the declaration keeps.

Knows the short forms of values; whether they are right is checked later. A value of a wrong type is given
back as it is: the validation then reports it with its place, together with everything else, where an
exception would hide the faults that come after it.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rayplat.core.project.check import TableCheck
from rayplat.core.project.table import Column


def as_tuple(value: Any) -> Any:
    """Several values as a tuple."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return tuple(value)


def as_names(value: Any) -> Any:
    """One name or several as a tuple."""
    return (value,) if isinstance(value, str) else as_tuple(value)


def iterated(value: Any) -> tuple[Any, ...]:
    """The values of a tuple; none of anything else."""
    return value if isinstance(value, tuple) else ()


def row_checks(checks: Any) -> Any:
    """The checks of rows, without those of the table."""
    given = as_tuple(checks)
    return tuple(c for c in given if not isinstance(c, TableCheck)) if isinstance(given, tuple) else given


def columns_of(columns: Any, must: set[str]) -> Any:
    """Columns by name; those in `must` are never null."""
    if not isinstance(columns, Mapping):
        return columns
    return {c: Column(t, nullable=c not in must) if isinstance(t, str) else t for c, t in columns.items()}


def features_of(features: Any, change: Callable[[Any], Any] = lambda definition: definition) -> Any:
    """Features by name, each changed."""
    if not isinstance(features, Mapping):
        return features
    return {name: change(definition) for name, definition in features.items()}


def given_or(value: Any, default: Any) -> Any:
    """A value, or a default where none was given."""
    # By presence: some wrong values, such as an expression, refuse to be true or false.
    return default if value is None or (isinstance(value, str) and not value) else value


def as_utc(value: Any) -> Any:
    """A time from a datetime or ISO text; a time without a zone is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

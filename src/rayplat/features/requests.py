"""Requests as they come from applications: mappings of plain values, made into typed asking rows.

Knows the declared types and how to tell every fault of a batch at once; it does not know where the
requests came from.
"""

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.column_types import polars_type, vector_length
from rayplat.core.project.faults import short
from rayplat.core.project.view import FeatureView, View, asking_columns, in_order
from rayplat.features.instants import utc

_WHOLE = {"int32": 2**31, "int64": 2**63}
# Half a step above the greatest float32 is rounded to infinity.
_GREATEST = 2.0**128 - 2.0**104
_FAULTS_TOLD = 20
_MISSING = object()


def request_columns(views: Sequence[View]) -> dict[str, str]:
    """The columns that a request must have, and their declared types.

    Columns of asking rows that name an entity count, too, and what on-demand views read of the asking row; a
    feature of another view that names an entity does not. Views that these are made of are looked at as well.

    Raises:
        UserError: two views want one column with different types.
    """
    wanted: dict[str, str] = {}
    asked = set(asking_columns(views))
    for view in in_order(views):
        for name, declared in _types(view).items():
            if name in asked and wanted.setdefault(name, declared) != declared:
                raise UserError(
                    f"column {name!r} is {wanted[name]} for one view and {declared} for {view.name!r}",
                    "give the two columns different names",
                )
    return wanted


def _types(view: View) -> dict[str, str]:
    """The columns of the asking row that one view reads, and their declared types."""
    if isinstance(view, FeatureView):
        named = zip(view.asks, view.entity, strict=True)
        return {ask: view.source.columns[column].type for ask, column in named}
    if view.source is None:
        return {}
    return {name: view.source.columns[name].type for name in view.inputs}


def request_frame(views: Sequence[View], requests: Sequence[Mapping[str, Any]], at: datetime) -> pl.DataFrame:
    """Requests as asking rows with the declared types; columns that no view reads are left out.

    Args:
        views: the views that will be asked.
        requests: one mapping a question; a value that is not there must be given as None.
        at: the time of all questions; stands in for the event time of the asking rows where it is not given.

    Raises:
        UserError: a column is missing, or a value is not of the declared type; the message lists the faults.
    """
    asking = (v for v in in_order(views) if not isinstance(v, FeatureView))
    times = {v.source.event_time for v in asking if v.source is not None}
    faults: list[str] = []
    columns = []
    for name, declared in request_columns(views).items():
        values = []
        for i, request in enumerate(requests):
            value = request.get(name, at if name in times else _MISSING)
            try:
                values.append(_convert(value, declared))
            except (TypeError, ValueError, OverflowError, UserError):
                told = (
                    f"has no {name!r}"
                    if value is _MISSING
                    else f"has {name} = {_shown(value)}, not a {declared}"
                )
                faults.append(f"request {i} {told}")
                values.append(None)
        columns.append(pl.Series(name, values, dtype=polars_type(declared)))
    if faults:
        more = f"; and {len(faults) - _FAULTS_TOLD} more" if len(faults) > _FAULTS_TOLD else ""
        raise UserError(
            "; ".join(faults[:_FAULTS_TOLD]) + more, "give every column its declared type, or null"
        )
    return pl.DataFrame(columns)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)} values: {short(list(value))}"
    return repr(value)


def _convert(value: Any, declared: str) -> Any:
    if value is None:
        return None
    if declared in _WHOLE:
        number = _is(value, int, float)
        if number != int(number) or not -_WHOLE[declared] <= number < _WHOLE[declared]:
            raise ValueError(value)
        return int(number)
    length = vector_length(declared)
    if length is not None:
        return _vector(value, length)
    return _READ[declared](value)


def _vector(value: Any, length: int) -> list[float]:
    if not isinstance(value, list | tuple) or len(value) != length:
        raise TypeError(value)
    numbers = [float(_is(one, int, float)) for one in value]
    # Written so that NaN, too, is refused, and what overflows 32 bits.
    if not all(abs(number) <= _GREATEST for number in numbers):
        raise ValueError(value)
    return numbers


def _time(value: Any) -> datetime:
    return utc(datetime.fromisoformat(value) if isinstance(value, str) else _is(value, datetime))


def _binary(value: Any) -> Any:
    return b64decode(value, validate=True) if isinstance(value, str) else _is(value, bytes)


def _day(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value)
    # A datetime is a date for Python; which day it means depends on a zone that nobody named.
    if isinstance(value, datetime) or not isinstance(value, date):
        raise TypeError(value)
    return value


def _is(value: Any, *kinds: type) -> Any:
    # True is an int for Python, and a mistake in a request.
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(value)
    return value


_READ: dict[str, Callable[[Any], Any]] = {
    "string": lambda value: _is(value, str),
    "float32": lambda value: float(_is(value, int, float)),
    "float64": lambda value: float(_is(value, int, float)),
    "bool": lambda value: _is(value, bool),
    "date": _day,
    "timestamp": _time,
    "binary": _binary,
}

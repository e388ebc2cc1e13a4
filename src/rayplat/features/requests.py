"""Requests as they come from applications: mappings of plain values, made into typed asking rows.

Knows the declared types and how to tell every fault of a batch at once; it does not know where the
requests came from.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView, View
from rayplat.features.instants import UTC_MICROS, utc

_DTYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "timestamp": UTC_MICROS,
}
_FAULTS_TOLD = 20
_MISSING = object()


def request_columns(views: Sequence[View]) -> dict[str, str]:
    """The columns that a request must have, and their declared types.

    The event time of the table that a request view reads is not among them: it is the time of the question.

    Raises:
        UserError: two views want one column with different types.
    """
    wanted: dict[str, str] = {}
    for view in views:
        names = view.entity if isinstance(view, FeatureView) else view.inputs
        for name in names:
            declared = view.source.columns[name].type
            if wanted.setdefault(name, declared) != declared:
                raise UserError(
                    f"column {name!r} is {wanted[name]} for one view and {declared} for {view.name!r}",
                    "give the two columns different names",
                )
    return wanted


def request_frame(views: Sequence[View], requests: Sequence[Mapping[str, Any]], at: datetime) -> pl.DataFrame:
    """Requests as asking rows with the declared types; columns that no view reads are left out.

    Args:
        views: the views that will be asked.
        requests: one mapping a question; a value that is not there must be given as None.
        at: the time of all questions; stands in for the event time of the asking rows where it is not given.

    Raises:
        UserError: a column is missing, or a value is not of the declared type; the message lists the faults.
    """
    times = {v.source.event_time for v in views if not isinstance(v, FeatureView)}
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
                    f"has no {name!r}" if value is _MISSING else f"has {name} = {value!r}, not a {declared}"
                )
                faults.append(f"request {i} {told}")
                values.append(None)
        columns.append(pl.Series(name, values, dtype=_DTYPES[declared]))
    if faults:
        more = f"; and {len(faults) - _FAULTS_TOLD} more" if len(faults) > _FAULTS_TOLD else ""
        raise UserError(
            "; ".join(faults[:_FAULTS_TOLD]) + more, "give every column its declared type, or null"
        )
    return pl.DataFrame(columns)


def _convert(value: Any, declared: str) -> Any:
    if value is None:
        return None
    if declared == "timestamp":
        return utc(datetime.fromisoformat(value) if isinstance(value, str) else _is(value, datetime))
    if declared == "float64":
        return float(_is(value, int, float))
    if declared == "int64":
        number = _is(value, int, float)
        if number != int(number) or not -(2**63) <= number < 2**63:
            raise ValueError(value)
        return int(number)
    return _is(value, {"string": str, "bool": bool}[declared])


def _is(value: Any, *kinds: type) -> Any:
    # True is an int for Python, and a mistake in a request.
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(value)
    return value

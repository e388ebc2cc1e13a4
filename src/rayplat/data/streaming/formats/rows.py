"""Rows: decoded values, column by column, as a typed frame with a verdict for each record.

Knows the declared columns and how to look at a whole column at once; it does not know any format.

A column is taken whole where all of its values are plainly of its type, and value by value otherwise.
Both ways give the same, so that a record is judged the same whatever stands beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from rayplat.core.project.column_types import polars_type, vector_length
from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.fit import DAYS, TIME_ARROW, TIMES, MisfitError, fit, micros
from rayplat.data.streaming.formats.json_records import Decoded
from rayplat.data.streaming.formats.json_types import narrowed

_PHYSICAL = {"timestamp": pl.Int64(), "date": pl.Int32()}
_ARROW = {"string": pa.large_string(), "int32": pa.int32(), "int64": pa.int64(), "bool": pa.bool_()}
_ARROW |= {"binary": pa.large_binary()}
_PLAIN: dict[str, set[type]] = {
    "string": {str},
    "int32": {int},
    "int64": {int},
    "bool": {bool},
    "binary": {bytes},
}
_NONE = type(None)


@dataclass(frozen=True, slots=True)
class Group:
    """Records of one schema, by column.

    Attributes:
        rows: the index of each record in the batch.
        values: for a column, the value of each record; a column that is not there is null.
        encodings: how the values of a column have to be read, see `fit.ENCODINGS`.
    """

    rows: Sequence[int]
    values: Mapping[str, Sequence[Any]]
    encodings: Mapping[str, str] = field(default_factory=dict)


def assemble(
    groups: Sequence[Group],
    columns: Mapping[str, Column],
    bad: Mapping[int, str],
    ignored: Sequence[int] = (),
) -> Decoded:
    """One frame of all groups, in the order of the batch.

    Args:
        bad: the records that could not be decoded at all, by index; `ignored`: those that say nothing.

    Returns:
        The rows; records of which a value does not fit its column have become bad, and the reason is
        that of the first such column as declared.
    """
    reasons = dict(bad)
    frames, places = [_empty(columns)], [np.empty(0, np.int64)]
    for group in groups:
        frame, misfits = _frame(group, columns)
        rows = np.asarray(group.rows, np.int64)
        if misfits:
            reasons.update({int(rows[i]): reason for i, reason in misfits.items()})
            fits = np.ones(len(rows), bool)
            fits[list(misfits)] = False
            frame, rows = frame.filter(fits), rows[fits]
        frames.append(frame)
        places.append(rows)
    frame, rows = pl.concat(frames), np.concatenate(places)
    if np.any(rows[1:] < rows[:-1]):
        order = np.argsort(rows)
        frame, rows = frame[order], rows[order]
    return Decoded(frame, rows.tolist(), reasons, ignored)


def _empty(columns: Mapping[str, Column]) -> pl.DataFrame:
    return pl.DataFrame(schema={name: polars_type(column.type) for name, column in columns.items()})


def _frame(group: Group, columns: Mapping[str, Column]) -> tuple[pl.DataFrame, dict[int, str]]:
    misfits: dict[int, str] = {}
    series = []
    for name, column in columns.items():
        values = group.values.get(name)
        if values is None:
            series.append(pl.Series(name, [None] * len(group.rows), polars_type(column.type)))
            continue
        encoding = group.encodings.get(name, "")
        whole = _whole(column.type, values, encoding)
        if whole is None:
            whole, reasons = _one_by_one(name, column, values, encoding)
            misfits = {**reasons, **misfits}
        series.append(whole.cast(polars_type(column.type)).alias(name))
    return pl.DataFrame(series), misfits


def _one_by_one(
    name: str, column: Column, values: Sequence[Any], encoding: str
) -> tuple[pl.Series, dict[int, str]]:
    reasons: dict[int, str] = {}
    fitted: list[Any] = []
    for index, value in enumerate(values):
        try:
            fitted.append(fit(name, column, value, encoding))
        except MisfitError as error:
            fitted.append(None)
            reasons[index] = str(error)
    return pl.Series(name, fitted, _PHYSICAL.get(column.type, polars_type(column.type))), reasons


def _whole(kind: str, values: Sequence[Any], encoding: str) -> pl.Series | None:
    """All values at once; None where one of them has to be looked at alone."""
    kinds = set(map(type, values)) - {_NONE}
    if encoding == "base64" or encoding.startswith("decimal("):
        return None
    try:
        if vector_length(kind):
            return _vectors(values) if kinds <= {list} else None
        if kind in _PLAIN:
            return _series(pa.array(values, _ARROW[kind])) if kinds <= _PLAIN[kind] else None
        if kind in ("float32", "float64"):
            return _numbers(values, kind) if kinds <= {float, int} else None
        return _times(values, kinds, encoding) if kind == "timestamp" else _dates(values, kinds, encoding)
    except (pa.ArrowException, ArithmeticError, ValueError, pl.exceptions.PolarsError):
        return None


def _series(array: pa.Array) -> pl.Series:
    # An array without a value is of Arrow's null type for some of the ways that lead here.
    return pl.Series(array)


def _numbers(values: Sequence[Any], kind: str) -> pl.Series | None:
    numbers = pa.array(values, pa.float64())
    if kind == "float32":
        long = numbers.to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            if np.any(np.isinf(long.astype(np.float32)) & ~np.isinf(long)):
                return None
    return _series(numbers)


def _vectors(values: Sequence[Any]) -> pl.Series | None:
    inside = set(map(type, chain.from_iterable(value for value in values if value is not None)))
    if not inside <= {float, int, _NONE}:
        return None
    numbers = pl.Series(pa.array(values, pa.large_list(pa.float64())))
    return narrowed(numbers, "vector(1)")


def _times(values: Sequence[Any], kinds: set[type], encoding: str) -> pl.Series | None:
    if kinds <= {int} and encoding in ("s", "ms", "us", "ns"):
        ticks = _series(pa.array(values, pa.int64()))
        if encoding == "ns":
            ticks = ticks // 1000
        elif encoding != "us":
            each = micros(1, encoding)
            if not ticks.drop_nulls().is_between(TIMES[0] // each, TIMES[1] // each).all():
                return None
            ticks = ticks * each
    elif kinds == {str}:
        ticks = _series(pc.cast(pa.array(values, pa.string()), TIME_ARROW)).to_physical()
    else:
        return None
    return ticks if ticks.drop_nulls().is_between(*TIMES).all() else None


def _dates(values: Sequence[Any], kinds: set[type], encoding: str) -> pl.Series | None:
    if kinds <= {int} and encoding == "days":
        days = _series(pa.array(values, pa.int32()))
    elif kinds == {str}:
        days = _series(pc.cast(pa.array(values, pa.string()), pa.date32())).to_physical()
    else:
        return None
    return days if days.drop_nulls().is_between(*DAYS).all() else None

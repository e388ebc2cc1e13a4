"""The names of views, entities and parts in the online store.

Knows how a definition and an entity's values become bytes; it does not know stores.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import polars as pl

from rayplat.core.project.view import FeatureView
from rayplat.features.definition import digest_of, micros
from rayplat.features.instants import Int64s, to_micros
from rayplat.features.plan import Plan

SLACK = timedelta(days=1)
"""How far behind an entity's newest known time a question may lie and still be answered exactly."""

SLACK_US = micros(SLACK)
_ENCODING = 2
_SIGN = 1 << 63
_MASK = (1 << 64) - 1


def store_key(prepared: Plan) -> str:
    """The name of a view in the online store: another definition, slack or encoding is another view.

    Views that are the same under other names are one.
    """
    view = prepared.view
    name = view.kept_as if isinstance(view, FeatureView) else view.name
    return f"{name}@{digest_of([prepared.digest, SLACK_US, _ENCODING])[:16]}"


def entity_key(values: Sequence[Any]) -> bytes:
    """The name of an entity: its key values, in the order of the view's entity columns, none null.

    Times are microseconds since 1970, dates days; no name begins another one.
    """
    return orjson.dumps([_plain(value) for value in values])


def entity_keys(frame: pl.DataFrame, entity: Sequence[str]) -> list[bytes | None]:
    """The name of each row's entity; None where a key is null."""
    columns = [_plain_column(frame.get_column(c)).to_list() for c in entity]
    dumps = orjson.dumps
    if len(columns) == 1:
        return [None if value is None else dumps([value]) for value in columns[0]]
    return [
        None if any(value is None for value in values) else dumps(values)
        for values in zip(*columns, strict=True)
    ]


def ordered_all(*columns: Int64s) -> list[bytes]:
    """`ordered` of each row of columns."""
    unsigned = np.stack(columns, axis=1).view(np.uint64) ^ np.uint64(_SIGN)
    data, width = unsigned.astype(">u8").tobytes(), 8 * len(columns)
    return [data[at : at + width] for at in range(0, len(data), width)]


def ordered(*numbers: int) -> bytes:
    """Signed 64-bit numbers as bytes that sort like them."""
    return b"".join([((n + _SIGN) & _MASK).to_bytes(8, "big") for n in numbers])


def _plain_column(series: pl.Series) -> pl.Series:
    if isinstance(series.dtype, pl.Datetime):
        series = series.dt.cast_time_unit("us")
    return series.to_physical() if series.dtype.is_temporal() else series


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_micros(value)
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days
    return value

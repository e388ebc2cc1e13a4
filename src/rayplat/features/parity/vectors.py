"""Logged feature vectors, whoever served them, in one form.

Knows the two logs of the platform and how their JSON becomes typed rows; it does not know how a vector
is made or compared.

`LOGGED` is the form: one row a vector.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Protocol

import orjson
import polars as pl
import pyarrow as pa

from rayplat.features.instants import UTC_MICROS
from rayplat.features.lake import Lake, to_frame

VECTORS = "serving.feature_vectors"
PREDICTIONS = "serving.predictions"

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("vector_id", pa.string(), nullable=False),
        pa.field("at", _TIME, nullable=False),
        pa.field("logged_at", _TIME, nullable=False),
        pa.field("caller", pa.string(), nullable=False),
        pa.field("views", pa.string(), nullable=False),
        pa.field("request", pa.string(), nullable=False),
        pa.field("features", pa.string(), nullable=False),
    ]
)
"""The columns of `serving.feature_vectors`. `views` is a JSON object: by view `digest`, `snapshot_id` and
`offsets` as of the read; `request` and `features` are JSON objects by column and by full name."""

LOGGED: dict[str, pl.DataType] = {
    "id": pl.String(),
    "at": UTC_MICROS,
    "views": pl.String(),
    "request": pl.String(),
    "features": pl.String(),
    "provenance": pl.String(),
}
"""The columns of logged vectors, as in `SCHEMA`; `views` is null where the log tells only `provenance`."""

_AS_THEY_ARE = (pl.Float64, pl.Int64, pl.Boolean, pl.String)
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class VectorLog(Protocol):
    """A log of served vectors."""

    def read(self, start: datetime | None, end: datetime | None) -> pl.DataFrame:
        """The vectors with start <= at < end, in the form `LOGGED`, by time and id."""


class FeatureVectors:
    """What `parity.log.FeatureLog` has committed.

    Args:
        lake: the lakehouse.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def read(self, start: datetime | None, end: datetime | None) -> pl.DataFrame:
        """See `VectorLog.read`."""
        names = {
            "vector_id": "id",
            "at": "at",
            "views": "views",
            "request": "request",
            "features": "features",
        }
        return _read(self._lake, VECTORS, names, (start, end), {})


class Predictions:
    """The features of predictions, from the prediction log's table.

    Args:
        lake: the lakehouse.
        endpoint: only what this endpoint answered.
    """

    def __init__(self, lake: Lake, endpoint: str | None = None) -> None:
        self._lake = lake
        self._endpoint = endpoint

    def read(self, start: datetime | None, end: datetime | None) -> pl.DataFrame:
        """See `VectorLog.read`."""
        names = {
            "prediction_id": "id",
            "at": "at",
            "request": "request",
            "features": "features",
            "provenance": "provenance",
        }
        equal = {} if self._endpoint is None else {"endpoint": self._endpoint}
        return _read(self._lake, PREDICTIONS, names, (start, end), equal)


def _read(
    lake: Lake,
    table: str,
    names: Mapping[str, str],
    between: tuple[datetime | None, datetime | None],
    equal: Mapping[str, str],
) -> pl.DataFrame:
    if not lake.exists(table):
        return pl.DataFrame(schema=LOGGED)
    read = to_frame(lake.table(table).read([*names, *equal]))
    start, end = between
    if start is not None:
        read = read.filter(pl.col("at") >= start)
    if end is not None:
        read = read.filter(pl.col("at") < end)
    for column, value in equal.items():
        read = read.filter(pl.col(column) == value)
    named = read.select(pl.col(had).alias(name) for had, name in names.items())
    missing = (pl.lit(None, dtype).alias(name) for name, dtype in LOGGED.items() if name not in named.columns)
    return named.with_columns(missing).select(pl.col(n).cast(t) for n, t in LOGGED.items()).sort("at", "id")


def encode_rows(frame: pl.DataFrame) -> pl.Series:
    """Rows as JSON objects from which `decode_column` makes the same bits again."""
    if frame.width and all(_plainly_encoded(series) for series in frame):
        # The shortest digits that give the same bits, as below, without a Python object for each of them.
        return frame.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    exact = frame.select(_encodable(series) for series in frame)
    rows = [orjson.dumps(row, default=_plain).decode() for row in exact.iter_rows(named=True)]
    return pl.Series(rows, dtype=pl.String)


def _plainly_encoded(series: pl.Series) -> bool:
    return series.dtype in _AS_THEY_ARE and (not series.dtype.is_float() or bool(series.is_finite().all()))


def _encodable(series: pl.Series) -> pl.Series:
    if series.dtype == pl.Duration:
        return series.to_physical()
    flat = series.explode(empty_as_null=True) if isinstance(series.dtype, pl.List | pl.Array) else series
    if not flat.dtype.is_float() or bool(flat.is_finite().all()):
        return series
    return pl.Series(series.name, [_exact(x) for x in series.to_list()], dtype=pl.Object)


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(x) for x in value]
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    raise TypeError(type(value).__name__)


def decode_rows(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Logged JSON objects as mappings."""
    return [orjson.loads(text) for text in texts]


def decode_column(name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series | None:
    """Values of a logged feature as a column of a type; None where they are not of that type.

    Args:
        name: the column's name.
        values: as JSON has them.
        dtype: what the feature has when it is made anew.
    """
    if dtype in _AS_THEY_ARE:
        # Nearly every column is plain: only one with "NaN" or of another type is looked at value by value.
        with contextlib.suppress(TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            return pl.Series(name, values, dtype=dtype, strict=True)
    try:
        return pl.Series(name, [_decode(value, dtype) for value in values], dtype=dtype, strict=True)
    except (TypeError, ValueError, OverflowError, KeyError, pl.exceptions.PolarsError):
        return None


def _decode(value: Any, dtype: Any) -> Any:
    if value is None or dtype in (pl.String, pl.Boolean):
        return value
    if isinstance(dtype, pl.List | pl.Array):
        return [_decode(x, dtype.inner) for x in value]
    if dtype.is_float():
        return _NOT_FINITE[value] if isinstance(value, str) else float(value)
    if isinstance(dtype, pl.Datetime):
        return datetime.fromisoformat(value)
    if dtype == pl.Date:
        return date.fromisoformat(value)
    return bytes.fromhex(value) if dtype == pl.Binary else value

"""Predictions as rows of the lakehouse table `serving.predictions`, and as payloads of a write-ahead file.

Knows the columns and both forms; it does not know when a row is durable.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa

from rayplat.serve.outbox import PredictionRecord, microseconds
from rayplat.serve.predicted import Joined, Part, as_text, rows_of_columns

TABLE = "serving.predictions"

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("prediction_id", pa.string(), nullable=False),
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("at", _TIME, nullable=False),
        pa.field("asked_at", _TIME, nullable=False),
        pa.field("request", pa.string(), nullable=False),
        pa.field("features", pa.string(), nullable=False),
        pa.field("provenance", pa.string(), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),
        pa.field("latency_s", pa.float64(), nullable=False),
        pa.field("output", pa.string()),
        pa.field("caller", pa.string()),
        pa.field("arm", pa.string()),
        pa.field("trace_id", pa.string()),
        pa.field("idempotency_key", pa.string()),
        pa.field("beside", pa.string()),
    ]
)
"""The columns of `serving.predictions`; `request`, `features`, `provenance` and `output` are JSON."""

_TIMES = ("at", "asked_at")
_TOLD = pa.schema([pa.field(f.name, pa.string() if f.type == _TIME else f.type) for f in SCHEMA])
_NAMES = frozenset(f.name for f in fields(PredictionRecord))


def arrow(records: Sequence[PredictionRecord]) -> pa.Table:
    """Records as rows of the table."""
    columns: dict[str, list[Any]] = {n: [getattr(r, n) for r in records] for n in SCHEMA.names}
    for name in _TIMES:
        columns[name] = [microseconds(moment) for moment in columns[name]]
    return pa.table(
        {f.name: pa.array(columns[f.name], pa.int64() if f.type == _TIME else f.type) for f in SCHEMA}
    ).cast(SCHEMA)


def payload(records: Sequence[PredictionRecord]) -> bytes:
    """Records of answers as a payload: a JSON list of records, and of calls with a list a field.

    The latter are half the bytes, and are written without a record for each prediction.
    """
    if isinstance(records, Part | Joined):
        return orjson.dumps(records.pieces(), default=as_text)
    return orjson.dumps(records if isinstance(records, list) else list(records))


def records_of(found: bytes) -> list[PredictionRecord]:
    """The records of a payload. A column of a later release is left out."""
    return [PredictionRecord(**_fields(row)) for row in _plain(found)]


def rows_of(payloads: Sequence[bytes]) -> pa.Table:
    """Payloads as rows of the table, without a record for each.

    Raises:
        ValueError, TypeError: one of them holds what is no prediction.
    """
    rows = [row for found in payloads for row in _plain(found)]
    table = pa.Table.from_pylist(rows, schema=_TOLD)
    if any(table.column(f.name).null_count for f in SCHEMA if not f.nullable):
        raise ValueError("a column that a prediction must have is missing")
    return table.cast(SCHEMA)


def _plain(found: bytes) -> list[dict[str, Any]]:
    rows = orjson.loads(found)
    if not isinstance(rows, list):
        raise TypeError("a payload is a list of predictions")
    if any("each" in row for row in rows):
        return [one for row in rows for one in (rows_of_columns(row) if "each" in row else (row,))]
    return rows


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name in _NAMES}
    return kept | {name: datetime.fromisoformat(kept[name]) for name in _TIMES}

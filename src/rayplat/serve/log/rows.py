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
    ]
)
"""The columns of `serving.predictions`; `request`, `features`, `provenance` and `output` are JSON."""

_TIMES = ("at", "asked_at")
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
    """Records of one answer as a payload."""
    return orjson.dumps(records if isinstance(records, list) else list(records))


def records_of(found: bytes) -> list[PredictionRecord]:
    """The records of a payload. A column of a later release is left out."""
    return [PredictionRecord(**_fields(row)) for row in orjson.loads(found)]


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name in _NAMES}
    return kept | {name: datetime.fromisoformat(kept[name]) for name in _TIMES}

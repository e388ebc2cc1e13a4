"""Side tables: what is put aside of a batch, and in which columns.

Knows the quarantine, the dead letters and the late rows as tables; it does not know what makes a record
bad, nor when they are committed.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from rayplat.data.streaming.sources.source import RecordMeta, Records

QUARANTINE, DEAD, LATE = "quarantine", "dead", "late"
SIDES = (QUARANTINE, DEAD, LATE)
"""The side tables, in the order in which a round commits them."""

_PLACE = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("partition", pa.string(), nullable=False),
    pa.field("offset", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("raw", pa.binary()),
]
_WHEN = pa.field("quarantined_at", pa.timestamp("us", tz="UTC"), nullable=False)
QUARANTINE_SCHEMA = pa.schema([*_PLACE, _WHEN])
"""The columns of a quarantine table: the record as it came, where it came from, and why it is there."""
DEAD_SCHEMA = pa.schema([*_PLACE, pa.field("key", pa.binary()), pa.field("headers", pa.string()), _WHEN])
"""The columns of a dead-letter table: as a quarantine's, with the record's key and its headers (JSON)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the records of a batch come from."""

    source: str
    partition: str


def quarantine_rows(place: Place, records: Records, reasons: Mapping[int, str]) -> pa.Table:
    """Quarantine rows for the records at the indices of `reasons`."""
    columns = _columns(place, records, reasons)
    return pa.table(columns, schema=QUARANTINE_SCHEMA)


def dead_rows(place: Place, records: Records, reasons: Mapping[int, str]) -> pa.Table:
    """Dead letters for the records at the indices of `reasons`."""
    columns = _columns(place, records, reasons)
    beside = [records.describe(i) if records.describe else RecordMeta() for i in sorted(reasons)]
    columns["key"] = [meta.key for meta in beside]
    columns["headers"] = [headers_text(meta.headers) for meta in beside]
    return pa.table(columns, schema=DEAD_SCHEMA)


def raw_of(records: Records, index: int) -> bytes | None:
    """The record as it came; of a source that gives frames, what it says of the record."""
    if records.frame is None:
        return records.values[index]
    return records.describe(index).raw if records.describe else None


def headers_text(headers: Sequence[tuple[str, bytes | None]]) -> str:
    """Headers as a JSON list of [name, value]; a value that is no text as {"base64": …}."""
    return json.dumps([[name, _header(value)] for name, value in headers], ensure_ascii=False)


def _header(value: bytes | None) -> object:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _columns(place: Place, records: Records, reasons: Mapping[int, str]) -> dict[str, list[object]]:
    indices = sorted(reasons)
    now = datetime.now(UTC)
    return {
        "source": [place.source] * len(indices),
        "partition": [place.partition] * len(indices),
        "offset": [str(records.offsets[i]) for i in indices],
        "reason": [reasons[i] for i in indices],
        "raw": [raw_of(records, i) for i in indices],
        "quarantined_at": [now] * len(indices),
    }

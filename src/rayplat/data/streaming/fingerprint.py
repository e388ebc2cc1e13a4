"""Fingerprints: the last record that was read of a partition, so that another life of a topic is noticed.

Knows how one record is told from another; it does not know when it is asked. A topic that was deleted and
made again has the old name, and once it is long enough the old offsets, too, with other records behind
them. Brokers do not all tell a topic's identity, but the record in front of the committed offset is either
the one that was read, or gone by retention, or another one.
"""

import hashlib
import json
from collections.abc import Mapping

from rayplat.core.errors import IntegrityError
from rayplat.data.streaming.sources.source import Limit, PartitionId, Records, Source, Watermarks

LAST_RECORDS = "rayplat.last-records"
"""The snapshot property with the last record of each partition: a JSON object, partition to fingerprint."""
_DIGITS = 16


def fingerprint(records: Records) -> str:
    """`offset:digest` of the last record; empty where there is none, or the source gives rows, not bytes."""
    if not len(records.values):
        return ""
    return f"{records.offsets[-1]}:{_digest(records.values[-1])}"


def _digest(value: bytes | None) -> str:
    return hashlib.sha256(b"-" if value is None else b"+" + bytes(value)).hexdigest()[:_DIGITS]


def parse(text: str | None) -> dict[str, str]:
    """Read the property; empty where a snapshot does not have it."""
    found: dict[str, str] = json.loads(text) if text else {}
    return found


def check_fingerprints(
    source: Source, committed: Mapping[str, str], marks: Mapping[PartitionId, Watermarks]
) -> None:
    """Look at the last record of each partition again.

    Args:
        committed: the fingerprints; records that are gone by retention prove nothing.

    Raises:
        IntegrityError: a record is another one: the source was made anew.
    """
    for partition, mark in marks.items():
        offset_text, _, digest = committed.get(str(partition), "").partition(":")
        if not digest or not mark.low <= int(offset_text) < mark.high:
            continue
        offset = int(offset_text)
        records = source.read(partition, offset, Limit(offset + 1, 1))
        if len(records.values) and records.offsets[0] == offset and _digest(records.values[0]) != digest:
            raise IntegrityError(
                f"{source.name} was made anew: the record at offset {offset} of partition {partition} is "
                "another one than was read there",
                "its offsets mean other records now: restore the old one, or start a new table for this one",
            )

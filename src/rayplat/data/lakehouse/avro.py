"""Manifests and manifest lists as Avro: the bytes that the Iceberg specification asks for.

Knows the records of the format, version 2, as plain dicts; it does not know which files a snapshot has.
fastavro writes and reads a record in microseconds, where pyiceberg's own encoder takes a tenth of a
millisecond; the schemas, with their field ids, are pyiceberg's, so that any engine reads the result.
"""

import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import fastavro
from pyiceberg.manifest import (
    MANIFEST_LIST_FILE_SCHEMAS,
    data_file_with_partition,
    manifest_entry_schema_with_data_file,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.types import StructType
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

ADDED, EXISTING, DELETED = 1, 0, 2
"""What a manifest entry says of its file."""

Entry = dict[str, Any]
"""A `manifest_entry`: status, snapshot_id, sequence_number, file_sequence_number, data_file."""
ManifestRecord = dict[str, Any]
"""A `manifest_file`: an entry of a manifest list."""

_MAPS = (
    "column_sizes",
    "value_counts",
    "null_value_counts",
    "nan_value_counts",
    "lower_bounds",
    "upper_bounds",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CODEC = "deflate"
_LEVEL = 1


def encode_entries(entries: Sequence[Entry], schema: Schema, spec: PartitionSpec) -> bytes:
    """A manifest with these entries, all of one partition spec."""
    parsed = _entry_schema(spec.partition_type(schema))
    metadata = {
        "schema": schema.model_dump_json(),
        "schema-id": str(schema.schema_id),
        "partition-spec": json.dumps([f.model_dump(by_alias=True, mode="json") for f in spec.fields]),
        "partition-spec-id": str(spec.spec_id),
        "format-version": "2",
        "content": "data",
    }
    return _encode(parsed, [_packed(entry) for entry in entries], metadata)


def decode_entries(content: bytes) -> list[Entry]:
    """The entries of a manifest, deleted ones too."""
    return [_unpacked(entry) for entry in _decode(content)]


def encode_manifests(
    records: Sequence[ManifestRecord], snapshot_id: int, parent: int | None, sequence: int
) -> bytes:
    """A manifest list with these manifests."""
    metadata = {
        "snapshot-id": str(snapshot_id),
        "parent-snapshot-id": str(parent) if parent is not None else "null",
        "sequence-number": str(sequence),
        "format-version": "2",
    }
    return _encode(_list_schema(), records, metadata)


def decode_manifests(content: bytes) -> list[ManifestRecord]:
    """The manifests of a manifest list."""
    return _decode(content)


def _encode(schema: Any, records: Sequence[Any], metadata: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    fastavro.writer(sink, schema, records, codec=_CODEC, codec_compression_level=_LEVEL, metadata=metadata)
    return sink.getvalue()


def _decode(content: bytes) -> list[Any]:
    return list(fastavro.reader(io.BytesIO(content)))


# The schema of an entry depends on nothing but the types of the partition values.
@lru_cache(maxsize=256)
def _entry_schema(partition: StructType) -> Any:
    described = data_file_with_partition(partition, format_version=2)
    return _parsed(manifest_entry_schema_with_data_file(2, described), "manifest_entry")


@lru_cache(maxsize=1)
def _list_schema() -> Any:
    return _parsed(MANIFEST_LIST_FILE_SCHEMAS[2], "manifest_file")


def _parsed(schema: Schema, name: str) -> Any:
    return fastavro.parse_schema(AvroSchemaConversion().iceberg_to_avro(schema, name))


def _packed(entry: Entry) -> Entry:
    """Maps with integer keys are arrays of key-value records in Avro."""
    data = entry["data_file"]
    maps = {name: [{"key": k, "value": v} for k, v in data[name].items()] for name in _MAPS if data.get(name)}
    return {**entry, "data_file": {**data, **{name: maps.get(name) for name in _MAPS}}}


def _unpacked(entry: Entry) -> Entry:
    data = entry["data_file"]
    maps = {name: {p["key"]: p["value"] for p in data[name]} for name in _MAPS if data.get(name) is not None}
    partition = {name: _physical(value) for name, value in data["partition"].items()}
    return {**entry, "data_file": {**data, **maps, "partition": partition}}


def _physical(value: Any) -> Any:
    """A partition value as Iceberg counts it: fastavro gives dates and times for logical types."""
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return (value - _EPOCH.date()).days if isinstance(value, date) else value

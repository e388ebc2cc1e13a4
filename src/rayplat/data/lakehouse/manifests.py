"""Manifests: the lists of files behind a snapshot, appended to, merged and taken from.

Knows which manifests a snapshot has and how they are kept few; it does not know who commits.

Merging works like a log-structured tree: manifests of about the same size are merged when there are
`_TIER` of them, so that n commits leave O(log n) manifests and every entry is written O(log n) times.
"""

import hashlib
import threading
import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.manifest import construct_partition_summaries
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record

from rayplat.data.lakehouse.avro import (
    ADDED,
    DELETED,
    EXISTING,
    Entry,
    ManifestRecord,
    decode_entries,
    decode_manifests,
    encode_entries,
    encode_manifests,
)
from rayplat.data.lakehouse.files import DataFile
from rayplat.data.lakehouse.objects import FileSystems, get, put

_TIER = 16
_MOST_ENTRIES = 16_384
_REMEMBERED_ENTRIES = 40_000


class _Memory:
    """Decoded manifests that were used last, by path: what a path names never changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, list[Any]] = OrderedDict()
        self._entries = 0

    def put(self, path: str, entries: list[Any]) -> None:
        with self._lock:
            if path not in self._kept:
                self._kept[path] = entries
                self._entries += len(entries)
            while self._entries > _REMEMBERED_ENTRIES and len(self._kept) > 1:
                self._entries -= len(self._kept.popitem(last=False)[1])

    def get(self, path: str) -> list[Any] | None:
        with self._lock:
            found = self._kept.get(path)
            if found is not None:
                self._kept.move_to_end(path)
            return found


_MEMORY = _Memory()


@dataclass(frozen=True, slots=True)
class Pending:
    """A manifest that is not written yet: only what no merge takes up is."""

    entries: list[Entry]
    spec_id: int

    @property
    def live(self) -> int:
        """How many files it has."""
        return sum(entry["status"] != DELETED for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Removal:
    """What remains when files are taken out: the manifests, and what the taken files were."""

    manifests: list[ManifestRecord]
    files: list[Mapping[str, Any]]


class Manifests:
    """Reads and writes the manifests of one table.

    Args:
        location: the table's location.
        schema: the current schema; `specs`: all partition specs, by id.
        systems: gives the file system of an address.
    """

    def __init__(
        self, location: str, schema: Schema, specs: Mapping[int, PartitionSpec], systems: FileSystems
    ) -> None:
        self._folder = f"{location.rstrip('/')}/metadata"
        self._schema = schema
        self._specs = specs
        self._systems = systems

    def of(self, manifest_list: str) -> list[ManifestRecord]:
        """The manifests of a snapshot."""
        found = _MEMORY.get(manifest_list)
        if found is None:
            found = decode_manifests(get(self._systems, manifest_list))
            _MEMORY.put(manifest_list, found)
        return list(found)

    def entries(self, manifest: ManifestRecord) -> list[Entry]:
        """The live entries of a manifest, with what they inherit from it filled in."""
        path = str(manifest["manifest_path"])
        found = _MEMORY.get(path)
        if found is None:
            found = decode_entries(get(self._systems, path))
            _MEMORY.put(path, found)
        return [_inherited(entry, manifest) for entry in found if entry["status"] != DELETED]

    def added(self, files: Sequence[DataFile], snapshot_id: int) -> list[Pending]:
        """Manifests that add files; one for each partition spec."""
        by_spec: dict[int, list[Entry]] = {}
        for file in files:
            entry = _entry(ADDED, snapshot_id, None, None, file.described)
            by_spec.setdefault(file.spec_id, []).append(entry)
        return [Pending(entries, spec_id) for spec_id, entries in by_spec.items()]

    def without(
        self, manifests: Sequence[ManifestRecord], paths: Collection[str], snapshot_id: int
    ) -> Removal:
        """Write the manifests again that name files to be taken out; the others stay as they are.

        The taken files stay in their manifest as deleted by this snapshot, as the specification wants.
        """
        wanted = set(paths)
        kept: list[ManifestRecord] = []
        gone: list[Mapping[str, Any]] = []
        for manifest in manifests:
            entries = self.entries(manifest)
            taken = [e for e in entries if e["data_file"]["file_path"] in wanted] if wanted else []
            if not taken:
                kept.append(manifest)
                continue
            wanted -= {e["data_file"]["file_path"] for e in taken}
            names = {e["data_file"]["file_path"] for e in taken}
            rest = [{**e, "status": EXISTING} for e in entries if e["data_file"]["file_path"] not in names]
            deleted = [{**e, "status": DELETED, "snapshot_id": snapshot_id} for e in taken]
            kept.append(self._write([*rest, *deleted], int(manifest["partition_spec_id"]), snapshot_id))
            gone += [e["data_file"] for e in taken]
        return Removal(kept, gone)

    def merged(
        self, added: Sequence[Pending], manifests: Sequence[ManifestRecord], snapshot_id: int
    ) -> list[ManifestRecord]:
        """Write new manifests, merged with those of their size where there are many; returns all."""
        kept: list[ManifestRecord | Pending] = [*added, *manifests]
        while (tier := _full_tier(kept)) is not None:
            entries = [
                entry if entry["snapshot_id"] == snapshot_id else {**entry, "status": EXISTING}
                for one in tier
                for entry in self._live(one)
            ]
            merged = [Pending(entries, _spec_id(tier[0]))] if entries else []
            kept = [*merged, *(one for one in kept if not any(one is taken for taken in tier))]
        return [
            self._write(one.entries, one.spec_id, snapshot_id) if isinstance(one, Pending) else one
            for one in kept
        ]

    def _live(self, one: ManifestRecord | Pending) -> list[Entry]:
        return one.entries if isinstance(one, Pending) else self.entries(one)

    def write_list(
        self, manifests: Sequence[ManifestRecord], snapshot_id: int, parent: int | None, sequence: int
    ) -> str:
        """Write a snapshot's manifest list; returns its address."""
        numbered = [
            {
                **m,
                "sequence_number": sequence if m["sequence_number"] < 0 else m["sequence_number"],
                "min_sequence_number": sequence if m["min_sequence_number"] < 0 else m["min_sequence_number"],
            }
            for m in manifests
        ]
        content = encode_manifests(numbered, snapshot_id, parent, sequence)
        path = self._name(f"snap-{snapshot_id}-0-{uuid.uuid4()}", content)
        put(self._systems, path, content)
        _MEMORY.put(path, numbered)
        return path

    def _write(self, entries: list[Entry], spec_id: int, snapshot_id: int) -> ManifestRecord:
        spec = self._specs[spec_id]
        content = encode_entries(entries, self._schema, spec)
        path = self._name(f"{uuid.uuid4()}-m0", content)
        put(self._systems, path, content)
        _MEMORY.put(path, entries)
        return _record(path, len(content), entries, spec=spec, schema=self._schema, snapshot_id=snapshot_id)

    def _name(self, stem: str, content: bytes) -> str:
        return f"{self._folder}/{stem}-{hashlib.sha256(content).hexdigest()}.avro"


def _entry(
    status: int, snapshot_id: int, sequence: int | None, file_sequence: int | None, file: Mapping[str, Any]
) -> Entry:
    return {
        "status": status,
        "snapshot_id": snapshot_id,
        "sequence_number": sequence,
        "file_sequence_number": file_sequence,
        "data_file": dict(file),
    }


def _inherited(entry: Entry, manifest: ManifestRecord) -> Entry:
    # What is new in a manifest does not know its sequence number yet: it is that of the manifest.
    if entry["sequence_number"] is not None and entry["snapshot_id"] is not None:
        return entry
    if manifest["sequence_number"] < 0:
        return entry
    number = manifest["sequence_number"]
    told = {
        "snapshot_id": manifest["added_snapshot_id"],
        "sequence_number": number,
        "file_sequence_number": number,
    }
    return {**entry, **{name: value for name, value in told.items() if entry[name] is None}}


def _full_tier(manifests: Sequence[ManifestRecord | Pending]) -> list[ManifestRecord | Pending] | None:
    tiers: dict[tuple[int, int], list[ManifestRecord | Pending]] = {}
    for manifest in manifests:
        live = _live(manifest)
        if live < _MOST_ENTRIES:
            size = max(live, 1).bit_length() // _TIER.bit_length()
            tiers.setdefault((_spec_id(manifest), size), []).append(manifest)
    return next((tier for tier in tiers.values() if len(tier) >= _TIER), None)


def _live(manifest: ManifestRecord | Pending) -> int:
    if isinstance(manifest, Pending):
        return manifest.live
    return int(manifest["added_files_count"]) + int(manifest["existing_files_count"])


def _spec_id(manifest: ManifestRecord | Pending) -> int:
    return manifest.spec_id if isinstance(manifest, Pending) else int(manifest["partition_spec_id"])


def _record(
    path: str,
    length: int,
    entries: Sequence[Entry],
    *,
    spec: PartitionSpec,
    schema: Schema,
    snapshot_id: int,
) -> ManifestRecord:
    counted: dict[str, int] = {}
    for status, word in ((ADDED, "added"), (EXISTING, "existing"), (DELETED, "deleted")):
        files = [e["data_file"] for e in entries if e["status"] == status]
        counted[f"{word}_files_count"] = len(files)
        counted[f"{word}_rows_count"] = sum(f["record_count"] for f in files)
    sequences = [e["sequence_number"] for e in entries if e["status"] != DELETED]
    known = [s for s in sequences if s is not None]
    return {
        "manifest_path": path,
        "manifest_length": length,
        "partition_spec_id": spec.spec_id,
        "content": 0,
        "sequence_number": -1,
        "min_sequence_number": min(known) if known else -1,
        "added_snapshot_id": snapshot_id,
        **counted,
        "partitions": _summaries(entries, spec, schema),
        "key_metadata": None,
    }


def _summaries(entries: Iterable[Entry], spec: PartitionSpec, schema: Schema) -> list[dict[str, Any]]:
    if spec.is_unpartitioned():
        return []
    names = [f.name for f in spec.fields]
    values = [Record(*(e["data_file"]["partition"][n] for n in names)) for e in entries]
    return [
        {
            "contains_null": s.contains_null,
            "contains_nan": s.contains_nan,
            "lower_bound": s.lower_bound,
            "upper_bound": s.upper_bound,
        }
        for s in construct_partition_summaries(spec, schema, values)
    ]

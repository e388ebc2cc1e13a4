"""The head of a table: its metadata as it is now, and the step to the next one.

Knows the JSON document that the Iceberg specification calls table metadata, as a plain dict; it does
not know where the pointer to it is kept (see `publish`). A document is never changed in place.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortOrder

MAIN = "main"
_PREVIOUS = 50

SnapshotRecord = dict[str, Any]
"""A snapshot as the metadata holds it, with its hyphenated names."""


@dataclass(frozen=True, slots=True)
class Head:
    """A table's metadata, and where it was read.

    Attributes:
        address: the metadata file.
        document: its content.
    """

    address: str
    document: Mapping[str, Any]

    @property
    def location(self) -> str:
        """Where the table's files are."""
        return str(self.document["location"])

    @property
    def uuid(self) -> str:
        """The table's identity: a table that is dropped and made again has another one."""
        return str(self.document["table-uuid"])

    @property
    def properties(self) -> Mapping[str, str]:
        """The table's properties."""
        found: Mapping[str, str] = self.document.get("properties", {})
        return found

    @property
    def snapshots(self) -> Sequence[SnapshotRecord]:
        """The snapshots that the metadata holds, oldest first."""
        found: Sequence[SnapshotRecord] = self.document.get("snapshots", [])
        return found

    @property
    def current_id(self) -> int | None:
        """The current snapshot; None before the first."""
        found = self.document.get("current-snapshot-id")
        return None if found in (None, -1) else int(found)

    def snapshot(self, snapshot_id: int) -> SnapshotRecord | None:
        """A snapshot that the metadata holds."""
        return next((s for s in reversed(self.snapshots) if s["snapshot-id"] == snapshot_id), None)

    def lineage(self) -> Iterator[SnapshotRecord]:
        """The snapshots that lead to the current one, newest first, as far as the metadata holds them."""
        by_id = {s["snapshot-id"]: s for s in self.snapshots}
        found = by_id.get(self.current_id)
        while found is not None:
            yield found
            found = by_id.get(found.get("parent-snapshot-id"))

    def schema(self) -> Schema:
        """The current schema."""
        return _schema(self.schema_json())

    def schema_json(self) -> bytes:
        """The current schema as JSON; hashable, where the schema is not."""
        wanted = self.document["current-schema-id"]
        return orjson.dumps(next(s for s in self.document["schemas"] if s["schema-id"] == wanted))

    def specs(self) -> dict[int, PartitionSpec]:
        """All partition specs, by id."""
        found = [_spec(orjson.dumps(s)) for s in self.document["partition-specs"]]
        return {spec.spec_id: spec for spec in found}

    def spec(self) -> PartitionSpec:
        """The partition spec that new files are written by."""
        return self.specs()[self.document["default-spec-id"]]

    def order(self) -> SortOrder:
        """The sort order that new files are written by."""
        wanted = self.document["default-sort-order-id"]
        return _order(orjson.dumps(next(o for o in self.document["sort-orders"] if o["order-id"] == wanted)))

    def referenced(self) -> set[int]:
        """The heads of branches and the snapshots under tags."""
        return {int(ref["snapshot-id"]) for ref in self.document.get("refs", {}).values()}


# A table is committed to many times with the same schema, and parsing one takes a millisecond.
@lru_cache(maxsize=1024)
def _schema(text: bytes) -> Schema:
    return Schema.model_validate_json(text)


@lru_cache(maxsize=1024)
def _spec(text: bytes) -> PartitionSpec:
    return PartitionSpec.model_validate_json(text)


@lru_cache(maxsize=1024)
def _order(text: bytes) -> SortOrder:
    return SortOrder.model_validate_json(text)


def advanced(head: Head, snapshot: SnapshotRecord, dropped: Collection[int]) -> dict[str, Any]:
    """The next metadata: one snapshot more, which is the current one, and some that are dropped."""
    old = head.document
    now = int(snapshot["timestamp-ms"])
    gone = set(dropped)
    kept = [s for s in head.snapshots if s["snapshot-id"] not in gone]
    log = [e for e in old.get("snapshot-log", []) if e["snapshot-id"] not in gone]
    refs = dict(old.get("refs", {}))
    refs[MAIN] = {**refs.get(MAIN, {"type": "branch"}), "snapshot-id": snapshot["snapshot-id"]}
    past = [
        *old.get("metadata-log", []),
        {"timestamp-ms": old["last-updated-ms"], "metadata-file": head.address},
    ]
    return {
        **old,
        "last-sequence-number": snapshot["sequence-number"],
        "last-updated-ms": now,
        "current-snapshot-id": snapshot["snapshot-id"],
        "snapshots": [*kept, snapshot],
        "snapshot-log": [*log, {"timestamp-ms": now, "snapshot-id": snapshot["snapshot-id"]}],
        "metadata-log": past[-_PREVIOUS:],
        "refs": refs,
    }


def outdated(head: Head) -> list[str]:
    """Metadata files that the next metadata will not list any more."""
    past = [e["metadata-file"] for e in head.document.get("metadata-log", [])]
    return past[: max(0, len(past) + 1 - _PREVIOUS)]


def next_time(head: Head) -> int:
    """Milliseconds since 1970 for the next snapshot: now, or just after the last if the clock went back."""
    return max(int(time.time() * 1000), int(head.document["last-updated-ms"]) + 1)

"""What snapshots name: manifest lists, manifests and data files, as one walk over the metadata.

Knows how to read them, and refuses metadata whose bytes are not what was written; it does not know
what becomes of a file. Each manifest is read once, however many snapshots share it.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rayplat.core.errors import IntegrityError
from rayplat.data.lakehouse.avro import DELETED, ManifestRecord, decode_entries, decode_manifests
from rayplat.data.lakehouse.files import digest_of
from rayplat.data.lakehouse.head import SnapshotRecord
from rayplat.data.lakehouse.objects import FileSystems, get
from rayplat.data.lakehouse.snapshot import Base

Fetch = Callable[[str], bytes]
"""Gives the bytes of a metadata file by its address, or raises IntegrityError."""
OnDamage = Callable[[str, IntegrityError], None]
"""Is told the address of a metadata file that cannot be read, and why."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A data or delete file as a manifest tells of it.

    Attributes:
        path: its address; `rows` and `size`: how many rows and bytes it should have.
        content: 0 for rows, 1 and 2 for deletes by another engine.
        spec_id: the partition spec of its manifest; `partition`: its values by field name.
        sequence: the sequence number of the commit that added it.
        lower, upper: Iceberg's encoded bounds, by field id.
    """

    path: str
    rows: int
    size: int
    content: int
    spec_id: int
    partition: Mapping[str, Any]
    sequence: int
    lower: Mapping[int, bytes] = field(repr=False)
    upper: Mapping[int, bytes] = field(repr=False)


@dataclass(slots=True)
class Reach:
    """Everything that a set of snapshots names.

    Attributes:
        lists: addresses of manifest lists; `manifests`: records of manifests by address.
        files: data files by address.
    """

    lists: set[str] = field(default_factory=set)
    manifests: dict[str, ManifestRecord] = field(default_factory=dict)
    files: dict[str, NamedFile] = field(default_factory=dict)

    def addresses(self) -> set[str]:
        """All of them."""
        return {*self.lists, *self.manifests, *self.files}


def fetcher(systems: FileSystems) -> Fetch:
    """A reader of metadata files that checks the digest in a file's name, where it has one."""

    def fetch(address: str) -> bytes:
        try:
            content = get(systems, address)
        except FileNotFoundError as error:
            raise IntegrityError(f"the metadata file {address} is missing", _MEND) from error
        except OSError as error:
            raise IntegrityError(f"the metadata file {address} cannot be read: {error}", _MEND) from error
        expected = digest_of(address)
        found = hashlib.sha256(content).hexdigest() if expected else None
        if found != expected:
            raise IntegrityError(
                f"the metadata file {address} has the SHA-256 {found}, not that of its name", _MEND
            )
        return content

    return fetch


_MEND = "restore the file from a backup, or roll the table back to a snapshot that does not name it"


def kept_snapshots(base: Base) -> list[SnapshotRecord]:
    """The snapshots of a table that can be read, in its metadata and in the archive, oldest first.

    The archive is asked after the metadata was read: a snapshot is archived before it leaves the metadata,
    so that none is missed on its way.
    """
    found = {int(s["snapshot-id"]): s for s in base.archive.recall(base.head.uuid, live=True)}
    found |= {int(s["snapshot-id"]): s for s in base.head.snapshots}
    return sorted(found.values(), key=lambda s: int(s.get("sequence-number", 0)))


def read_manifests(fetch: Fetch, snapshot: SnapshotRecord) -> list[ManifestRecord]:
    """The manifests of a snapshot.

    Raises:
        IntegrityError: the manifest list is missing, damaged or not readable.
    """
    address = str(snapshot["manifest-list"])
    return _parsed(address, fetch(address), decode_manifests)


def read_files(fetch: Fetch, record: ManifestRecord) -> list[NamedFile]:
    """The live files of a manifest.

    Raises:
        IntegrityError: the manifest is missing, damaged, not readable, or has another number of live
            files than its manifest list says.
    """
    address = record["manifest_path"]
    content = fetch(address)
    entries = [e for e in _parsed(address, content, decode_entries) if e["status"] != DELETED]
    counted = (_count(record, "added"), _count(record, "existing"))
    told = sum(count or 0 for count in counted)
    if None not in counted and told != len(entries):
        raise IntegrityError(
            f"the manifest {address} has {len(entries)} live files, and its list says {told}", _MEND
        )
    return [_named(entry, record) for entry in entries]


def _count(record: ManifestRecord, kind: str) -> int | None:
    # Version 1 of the format names the counts differently.
    found = record.get(f"{kind}_files_count", record.get(f"{kind}_data_files_count"))
    return None if found is None else int(found)


def _named(entry: Mapping[str, Any], record: ManifestRecord) -> NamedFile:
    data = entry["data_file"]
    sequence = entry.get("sequence_number")
    return NamedFile(
        path=data["file_path"],
        rows=data["record_count"],
        size=data["file_size_in_bytes"],
        content=data.get("content") or 0,
        spec_id=record["partition_spec_id"],
        partition=data.get("partition") or {},
        sequence=(record.get("sequence_number") or 0) if sequence is None else sequence,
        lower=data.get("lower_bounds") or {},
        upper=data.get("upper_bounds") or {},
    )


def _parsed(address: str, content: bytes, decode: Callable[[bytes], list[Any]]) -> list[Any]:
    try:
        return decode(content)
    except Exception as error:  # fastavro raises whatever the broken bytes lead it to
        raise IntegrityError(f"the metadata file {address} is no Avro: {error!r}", _MEND) from error


def reach(snapshots: Iterable[SnapshotRecord], fetch: Fetch, *, on_damage: OnDamage | None = None) -> Reach:
    """Everything that snapshots name.

    Args:
        on_damage: told of metadata that cannot be read, which is then left out; None: it is raised.

    Raises:
        IntegrityError: see `on_damage`.
    """
    found = Reach()
    for snapshot in snapshots:
        address = str(snapshot["manifest-list"])
        found.lists.add(address)
        for record in _tolerant(address, partial(read_manifests, fetch, snapshot), on_damage):
            found.manifests[record["manifest_path"]] = record
    for address, record in found.manifests.items():
        for file in _tolerant(address, partial(read_files, fetch, record), on_damage):
            found.files[file.path] = file
    return found


def _tolerant(address: str, read: Callable[[], list[Any]], on_damage: OnDamage | None) -> list[Any]:
    try:
        return read()
    except IntegrityError as error:
        if on_damage is None:
            raise
        on_damage(address, error)
        return []


def live_files(snapshot: SnapshotRecord, fetch: Fetch) -> list[NamedFile]:
    """The files of one snapshot, oldest first, and by address where one commit added several.

    Raises:
        IntegrityError: the metadata is damaged.
    """
    return sorted(reach([snapshot], fetch).files.values(), key=lambda file: (file.sequence, file.path))

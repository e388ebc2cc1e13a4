"""Integrity: every stored byte of a table against what was written.

Knows that a file's name holds its SHA-256, and how to tell which rows a broken file hits; it does not
mend. A digest finds every flipped bit; the checksums of Parquet pages then say where it is. Where several
places of one file are broken, the rows named are those whose pages are; a broken footer hides no row that
a page told of, but may hide others, so the whole file is to be written again in any case.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyiceberg.table.metadata import TableMetadataUtil

from rayplat.core.errors import IntegrityError, NotFoundError
from rayplat.data.lakehouse.damage import EVERY_COLUMN, RowRange, damaged_rows
from rayplat.data.lakehouse.files import digest_of
from rayplat.data.lakehouse.hashing import sha256_of
from rayplat.data.lakehouse.head import SnapshotRecord
from rayplat.data.lakehouse.objects import FileSystems, by_address
from rayplat.data.lakehouse.reachable import NamedFile, fetcher, kept_snapshots, reach
from rayplat.data.lakehouse.snapshot import Base


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what was written.

    Attributes:
        path: its address; `kind`: `missing`, `size`, `digest`, `page`, `unreadable` or `metadata`.
        detail: what was seen, in a sentence.
        rows: the rows affected, by position in the file and column; empty for metadata.
        affected: how many rows of the file are hit in at least one column.
    """

    path: str
    kind: str
    detail: str
    rows: tuple[RowRange, ...] = ()
    affected: int = 0


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification saw.

    Attributes:
        snapshots: the ids that were looked at.
        files, size, rows: how many data files, bytes and rows were read.
        metadata_files: how many manifest lists and manifests were read.
        damaged: every file that is not what was written.
        unproven: files of other writers, without a digest; the checksums of their pages, where they have
            any, are right.
        seconds: how long it took.
    """

    table: str
    snapshots: tuple[int, ...]
    files: int
    size: int
    rows: int
    metadata_files: int
    damaged: tuple[Damage, ...]
    unproven: tuple[str, ...]
    seconds: float

    def check(self) -> None:
        """Raise if anything is damaged.

        Raises:
            IntegrityError: names the first damaged file, and how many there are.
        """
        if self.damaged:
            first = self.damaged[0]
            raise IntegrityError(
                f"table {self.table} has {len(self.damaged)} damaged files; {first.path}: {first.detail}",
                "restore them from a backup, or roll back to a snapshot that does not name them",
            )


def verify_table(
    base: Base, snapshot: int | None = None, *, every: bool = False, threads: int = 2
) -> VerifyReport:
    """Read every byte that a snapshot names, and compare it with what was written.

    Args:
        base: the table, freshly loaded.
        snapshot: its id; the current one if None.
        every: all snapshots that are kept, in place of one.
        threads: files that are hashed at the same time.

    Returns:
        The report; damage is told, not raised (see `VerifyReport.check`).

    Raises:
        NotFoundError: there is no such snapshot.
    """
    begun = time.monotonic()
    systems = base.publisher.systems
    chosen = _chosen(base, snapshot, every)
    damaged = [*_head_damage(base)]
    found = reach(
        chosen,
        fetcher(systems),
        on_damage=lambda address, error: damaged.append(Damage(address, "metadata", error.what)),
    )
    results = verify_files(found.files.values(), threads=threads, systems=systems)
    damaged += [result for result in results if isinstance(result, Damage)]
    return VerifyReport(
        table=base.name,
        snapshots=tuple(int(one["snapshot-id"]) for one in chosen),
        files=len(found.files),
        size=sum(file.size for file in found.files.values()),
        rows=sum(file.rows for file in found.files.values() if file.content == 0),
        metadata_files=1 + len(found.lists) + len(found.manifests),
        damaged=tuple(damaged),
        unproven=tuple(result for result in results if isinstance(result, str)),
        seconds=time.monotonic() - begun,
    )


def verify_files(
    files: Iterable[NamedFile], *, threads: int = 2, systems: FileSystems = by_address
) -> list[Damage | str | None]:
    """Check data files, several at a time, in order of their addresses.

    Returns:
        For each: None if it is proven whole, its address if it has nothing to be proven by, or its damage.
    """
    ordered = sorted(files, key=lambda file: file.path)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        return list(pool.map(lambda file: verify_file(file, systems), ordered))


def verify_file(file: NamedFile, systems: FileSystems = by_address) -> Damage | str | None:
    """Check one data file; see `verify_files`."""
    every = (RowRange(0, file.rows, EVERY_COLUMN),)
    system, inside = systems(file.path)
    expected = digest_of(file.path)
    try:
        info = system.get_file_info(inside)
        if not info.is_file:
            return Damage(file.path, "missing", "the file is not there", every, file.rows)
        if info.size != file.size:
            told = f"it has {info.size:,} bytes, and {file.size:,} were written"
            return Damage(file.path, "size", told, every, file.rows)
        if expected is None:
            return _by_pages(file, systems)
        digest = sha256_of(system, inside)
    except OSError as error:
        return Damage(file.path, "unreadable", f"it cannot be read: {error}", every, file.rows)
    if digest == expected:
        return None
    ranges = damaged_rows(system, inside, file.rows) or every
    detail = f"its bytes have the SHA-256 {digest}, and {expected} was written"
    return Damage(file.path, "digest", detail, ranges, count_rows(ranges))


def _by_pages(file: NamedFile, systems: FileSystems) -> Damage | str:
    """A file of another writer: checksums of pages are all there may be, and they do not cover the rest."""
    ranges = damaged_rows(*systems(file.path), file.rows) if file.path.endswith(".parquet") else ()
    if not ranges:
        return file.path
    detail = "pages do not have the checksums that were written with them"
    return Damage(file.path, "page", detail, ranges, count_rows(ranges))


def count_rows(ranges: Iterable[RowRange]) -> int:
    """How many rows lie in at least one of the ranges."""
    total = reached = 0
    for part in sorted(ranges):
        total += max(0, part.end - max(part.first, reached))
        reached = max(reached, part.end)
    return total


def _chosen(base: Base, snapshot: int | None, every: bool) -> list[SnapshotRecord]:
    kept = kept_snapshots(base)
    if every:
        return kept
    wanted = base.head.current_id if snapshot is None else snapshot
    found = [one for one in kept if one["snapshot-id"] == wanted]
    if snapshot is not None and not found:
        raise NotFoundError(
            f"table {base.name} has no snapshot {snapshot} that can be read", "see the table's history"
        )
    return found


def _head_damage(base: Base) -> Iterable[Damage]:
    """The metadata file that the catalog names. Older ones name nothing that is not in it."""
    address = base.head.address
    try:
        TableMetadataUtil.parse_raw(fetcher(base.publisher.systems)(address).decode())
    except IntegrityError as error:
        yield Damage(address, "metadata", error.what)
    except ValueError as error:
        yield Damage(address, "metadata", f"the metadata file {address} is no table metadata: {error}")

"""Orphans: files under a table's location that nothing names.

Knows what is listed and what is named; it does not know how a file came to be left. Killed writers, lost
commits and expiries that were cut short leave them. The files are listed *before* it is read what the table
names, so that a commit in between only adds names; and a file is an orphan only when it is older than any
writer takes from its file to its commit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow.fs as pafs

from rayplat.core.errors import UserError
from rayplat.data.lakehouse.reachable import fetcher, kept_snapshots, reach
from rayplat.data.lakehouse.snapshot import Base
from rayplat.data.lakehouse.table import LakeTable

OLDER_THAN = timedelta(days=3)
SHORTEST = timedelta(minutes=10)
"""A younger file may be that of a commit which is under way."""
_FOLDERS = ("data", "metadata")
_HINT = "version-hint.text"


@dataclass(frozen=True, slots=True)
class Orphan:
    """A file that nothing names: its path in its file system, its bytes and when it was written."""

    path: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class OrphanReport:
    """What was found, and with `deleted` removed.

    Attributes:
        named: how many files the table names; `young`: how many it does not that are too young to tell.
    """

    table: str
    deleted: bool
    orphans: tuple[Orphan, ...]
    named: int
    young: int

    @property
    def size(self) -> int:
        """How many bytes the orphans have."""
        return sum(one.size for one in self.orphans)


def find_orphans(
    table: LakeTable, *, older_than: timedelta = OLDER_THAN, delete: bool = False, now: datetime | None = None
) -> OrphanReport:
    """Look for files that nothing names, and delete them if asked.

    Args:
        older_than: younger files are left alone; longer than any writer takes from file to commit.
        now: the time against which the files' age is taken.

    Raises:
        UserError: `older_than` is so short that files of a running commit would be taken.
        IntegrityError: metadata is damaged, so that it is not known what is named; nothing was deleted.
    """
    if older_than < SHORTEST:
        raise UserError(
            f"older_than is {older_than}: files of a commit that is under way would be taken",
            f"use {SHORTEST} or longer",
        )
    base = table.base()
    system, place = base.publisher.systems(base.head.location)
    listed = list(_listed(system, place.rstrip("/")))
    # Named is read from a later look at the table than the listing.
    after = table.base()
    named = _named(after)
    strange = [info for info in listed if info.path not in named and info.base_name != _HINT]
    limit = (now or datetime.now(UTC)) - older_than
    old = [info for info in strange if info.mtime < limit]
    if delete:
        for info in old:
            system.delete_file(info.path)
    return OrphanReport(
        table=table.name,
        deleted=delete,
        orphans=tuple(Orphan(i.path, i.size, i.mtime) for i in sorted(old, key=lambda i: str(i.path))),
        named=len(named),
        young=len(strange) - len(old),
    )


def _listed(system: pafs.FileSystem, place: str) -> Iterable[pafs.FileInfo]:
    for folder in _FOLDERS:
        selector = pafs.FileSelector(f"{place}/{folder}", recursive=True, allow_not_found=True)
        yield from (info for info in system.get_file_info(selector) if info.is_file)


def _named(base: Base) -> set[str]:
    """Everything that the table names, as paths in their file system."""
    systems, document = base.publisher.systems, base.head.document
    found = reach(kept_snapshots(base), fetcher(systems)).addresses()
    found.add(base.head.address)
    found |= {str(entry["metadata-file"]) for entry in document.get("metadata-log", [])}
    for kind in ("statistics", "partition-statistics"):
        found |= {str(entry["statistics-path"]) for entry in document.get(kind, [])}
    return {systems(address)[1] for address in found}

"""Expiry: snapshots that have had their time, and the files that nothing else names.

Knows the order of steps that keeps readers and writers safe; it does not know which snapshots a model
needs (`protected` tells).

Why no live file is deleted. (1) What is deleted is found by reach, not by what manifests tell as deleted:
all that the expired snapshots name, less all that any kept snapshot names, and what is kept is read from
the catalog *after* the snapshots are gone from it. A file that was taken out and put in again is thus
kept. (2) Nothing can come to name such a file later: a commit names what its parent named and files that it
wrote itself, under new names; its parent is the current snapshot, which never expires, or the catalog
refuses it. So a compaction that was planned on a snapshot that expires now either finds its files live, or
fails loudly. (3) A tag or a rollback that makes an old snapshot needed again, between the plan and the
commit, fails the commit: the catalog itself checks that no reference names what is dropped. (4) A pin and
an expiry of the same snapshot exclude each other (see `pins`). (5) A snapshot's age counts from when it
stopped being the current one, so that who began to read it then has at least the grace. (6) A process that
is killed leaves expired snapshots whose files are still there (see `orphans`), never live snapshots whose
files are not.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table as NativeTable
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    ValidatableTableRequirement,
)

from rayplat.core.errors import ConflictError
from rayplat.data.lakehouse.head import SnapshotRecord
from rayplat.data.lakehouse.maintenance.plan import Lifetime, anchored, plan_expiry
from rayplat.data.lakehouse.objects import FileSystems, remove
from rayplat.data.lakehouse.pins import Pins
from rayplat.data.lakehouse.reachable import Reach, fetcher, kept_snapshots, reach
from rayplat.data.lakehouse.snapshot import Base
from rayplat.data.lakehouse.table import LakeTable

_TRIES = 20

Protected = Callable[[str], Iterable[int]]
"""Gives the snapshots of a table that registered models name."""


def _nothing(_table: str) -> Iterable[int]:
    return ()


def _no_step(name: str) -> None:
    """Nobody watches the steps."""


@dataclass(frozen=True, slots=True)
class ExpiryReport:
    """What an expiry did, or with `dry_run` would do.

    Attributes:
        expired: ids of snapshots, oldest first; `kept`: how many can still be read.
        files, metadata_files, size: what is deleted: data files, manifests and their lists, bytes of data.
        unreadable: metadata of expired snapshots that was damaged: what it named is left to `orphans`.
    """

    table: str
    dry_run: bool
    expired: tuple[int, ...]
    kept: int
    files: int
    metadata_files: int
    size: int
    unreadable: tuple[str, ...]


class Expiry:
    """Expires snapshots of tables.

    Args:
        pins: who holds which snapshot.
        protected: gives the snapshots that registered models name.
        lifetime: how long a snapshot is kept.
        step: called after each step (`sentenced`, `archived`, `dropped`, `expired`, `deleted`); tests kill
            the process there.
    """

    def __init__(
        self,
        pins: Pins,
        protected: Protected = _nothing,
        *,
        lifetime: Lifetime | None = None,
        step: Callable[[str], None] = _no_step,
    ) -> None:
        self._pins = pins
        self._protected = protected
        self._lifetime = lifetime or Lifetime()
        self._step = step

    def plan(self, table: LakeTable, now: datetime | None = None) -> ExpiryReport:
        """What would be done now.

        Raises:
            IntegrityError: metadata that is to be kept is damaged.
        """
        at = now or datetime.now(UTC)
        base = table.base()
        kept = kept_snapshots(base)
        going = set(plan_expiry(kept, self._needed(base), at, self._lifetime))
        rest = [one for one in kept if one["snapshot-id"] not in going]
        garbage = _garbage(base, kept, going, reach(rest, fetcher(base.publisher.systems)))
        return _report(table.name, kept, going, garbage, dry_run=True)

    def expire(self, table: LakeTable, now: datetime | None = None) -> ExpiryReport:
        """Expire what has had its time, and delete what nothing names any more.

        Raises:
            ConflictError: references of the table change all the time; nothing was deleted.
            IntegrityError: metadata that is to be kept is damaged; no file was deleted.
        """
        at = now or datetime.now(UTC)
        for number in range(_TRIES):
            base = table.base()
            kept = kept_snapshots(base)
            going = self._sentenced(base, kept, at)
            if not going or self._drop(base, going):
                break
            time.sleep(min(0.01 * 2**number, 0.5))
        else:
            going = self._archived_only(base, going)
        if not going:
            return _report(table.name, kept, going, _Garbage(), dry_run=False)
        base.archive.expire(base.head.uuid, going)
        self._pins.carried_out(table.name, going)
        self._step("expired")
        after = table.base()
        living = reach(kept_snapshots(after), fetcher(after.publisher.systems))
        garbage = _garbage(base, kept, going, living)
        _delete(after.publisher.systems, garbage)
        self._step("deleted")
        return _report(table.name, kept, going, garbage, dry_run=False)

    def _needed(self, base: Base) -> set[int]:
        current = {base.head.current_id} if base.head.current_id is not None else set()
        named = {*self._protected(base.name), *self._pins.held(base.name)}
        return {*current, *base.head.referenced(), *anchored(list(base.head.lineage())), *named}

    def _sentenced(self, base: Base, kept: Sequence[SnapshotRecord], at: datetime) -> set[int]:
        """The snapshots that are going to be expired, and that nobody can hold any more."""
        planned = plan_expiry(kept, self._needed(base), at, self._lifetime)
        if not planned:
            return set()
        going = self._pins.sentence(base.name, planned, at)
        # A model may have been registered since the plan; its training held the snapshot until then.
        spared = going & set(self._protected(base.name))
        if spared:
            self._pins.carried_out(base.name, spared)
        self._step("sentenced")
        return going - spared

    def _archived_only(self, base: Base, going: set[int]) -> set[int]:
        """What can be expired although writers never let us at the metadata: the rest waits for next time."""
        here = {int(one["snapshot-id"]) for one in base.head.snapshots}
        self._pins.carried_out(base.name, going & here)
        if going <= here:
            raise ConflictError(f"other writers of {base.name} were faster {_TRIES} times", "try again")
        return going - here

    def _drop(self, base: Base, going: set[int]) -> bool:
        """Take snapshots out of the metadata; False if a reference came to name one of them."""
        ids = [int(one["snapshot-id"]) for one in base.head.snapshots if one["snapshot-id"] in going]
        if not ids:
            return True
        # Archived first: whoever looks finds a snapshot in one place at least, and its summary for ever.
        # So are those that stay behind a gap, by a tag or a pin: the lineage ends before them now.
        line = list(base.head.lineage())
        gap = next((at for at, one in enumerate(line) if one["snapshot-id"] in going), len(line))
        base.archive.remember(base.head.uuid, line[gap:])
        self._step("archived")
        native = base.publisher.native(base.name)
        try:
            update = RemoveSnapshotsUpdate(snapshot_ids=ids)
            done = native.catalog.commit_table(native, _requirements(native, base, ids), (update,))
        except (CommitFailedException, ValueError):
            return False  # another commit was in between, or has dropped one of them itself
        self._step("dropped")
        listed = {entry.metadata_file for entry in done.metadata.metadata_log}
        for entry in native.metadata.metadata_log:
            if entry.metadata_file not in listed:
                remove(base.publisher.systems, entry.metadata_file)
        return True


@dataclass(slots=True)
class _Garbage:
    """What nothing names any more: addresses of data files and of metadata, and the data's bytes."""

    files: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    size: int = 0
    unreadable: list[str] = field(default_factory=list)


def _garbage(base: Base, kept: Sequence[SnapshotRecord], going: set[int], living: Reach) -> _Garbage:
    """What only the snapshots that go name."""
    systems = base.publisher.systems
    found = _Garbage()
    leaving = reach(
        [one for one in kept if one["snapshot-id"] in going],
        fetcher(systems),
        on_damage=lambda address, _: found.unreadable.append(address),
    )
    named = {systems(address)[1] for address in living.addresses()}
    for address in sorted(leaving.addresses()):
        if systems(address)[1] in named:
            continue
        if address in leaving.files:
            found.files.append(address)
            found.size += leaving.files[address].size
        else:
            found.metadata.append(address)
    return found


class _NoneReferenced(ValidatableTableRequirement):
    """The table has the snapshots, and no branch or tag names one: checked where the catalog swaps."""

    type: Literal["rayplat-none-referenced"] = "rayplat-none-referenced"
    snapshot_ids: list[int]

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]
        """Refuse the commit where it does not hold."""
        named = {ref.snapshot_id for ref in base_metadata.refs.values()} if base_metadata else set()
        lost = named & set(self.snapshot_ids)
        if lost or base_metadata is None:
            raise CommitFailedException(f"a branch or a tag names snapshot {min(lost, default=None)}")


def _requirements(native: NativeTable, base: Base, ids: list[int]) -> tuple[Any, ...]:
    same = AssertTableUUID(uuid=uuid.UUID(base.head.uuid))
    if isinstance(native.catalog, RestCatalog):
        # A REST server knows the standard's requirements alone: every reference stands where it stood.
        refs = native.metadata.refs.items()
        return (same, *(AssertRefSnapshotId(ref=name, snapshot_id=ref.snapshot_id) for name, ref in refs))
    return (same, _NoneReferenced(snapshot_ids=ids))


def _delete(systems: FileSystems, garbage: _Garbage) -> None:
    """Data files first: as long as a manifest is there, what it names can be told from other leftovers."""
    for address in (*garbage.files, *garbage.metadata):
        remove(systems, address)


def _report(
    table: str, kept: Sequence[SnapshotRecord], going: set[int], garbage: _Garbage, *, dry_run: bool
) -> ExpiryReport:
    ids = [int(one["snapshot-id"]) for one in kept]
    return ExpiryReport(
        table=table,
        dry_run=dry_run,
        expired=tuple(one for one in ids if one in going),
        kept=len(ids) - len(going),
        files=len(garbage.files),
        metadata_files=len(garbage.metadata),
        size=garbage.size,
        unreadable=tuple(garbage.unreadable),
    )

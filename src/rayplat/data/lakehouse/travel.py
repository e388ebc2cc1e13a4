"""Time travel: which snapshot a read means when it names an id, a time, a tag or a branch.

Knows names and times of snapshots, and makes and drops tags and branches; it does not read rows.
"""

import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table as NativeTable
from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.table.update.snapshot import ManageSnapshots

from rayplat.core.errors import ConflictError, NotFoundError, UserError
from rayplat.data.lakehouse.snapshot import SnapshotInfo

At = int | datetime | str
"""What a read may name: a snapshot's id, a time (with its zone), or the name of a tag or a branch."""

MAIN = "main"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Reference:
    """A name for a snapshot.

    Attributes:
        kind: `tag` (stays where it is) or `branch` (moves with commits to it).
    """

    name: str
    kind: str
    snapshot_id: int


@dataclass(frozen=True, slots=True)
class _Moment:
    snapshot_id: int
    at: datetime
    live: bool


def resolve(
    native: NativeTable, at: At | None, history: Callable[[], Sequence[SnapshotInfo]] | None = None
) -> int | None:
    """The snapshot that a read means.

    Args:
        native: the table, freshly loaded.
        at: None: the current one. A time means the newest snapshot that was committed at or before it.
        history: gives all snapshots of the table, oldest first, also those that its metadata does not
            hold; what the metadata holds if None. Asked only where the metadata cannot tell.

    Returns:
        Its id; None where `at` is None and nothing was ever committed.

    Raises:
        NotFoundError: there is none; says which ones are near.
        UserError: a time without a zone, or a bool.
    """
    if at is None:
        current = native.current_snapshot()
        return current.snapshot_id if current else None
    if isinstance(at, bool) or not isinstance(at, int | datetime | str):
        raise UserError(f"{at!r} names no snapshot", "give a snapshot id, a datetime, a tag or a branch")
    if isinstance(at, datetime):
        return _at_time(native, at, history)
    if isinstance(at, int):
        return _by_id(native, at, history)
    return _by_name(native, at)


def _table(native: NativeTable) -> str:
    return ".".join(native.name())


def _moments(native: NativeTable, history: Callable[[], Sequence[SnapshotInfo]] | None) -> list[_Moment]:
    if history is not None:
        return [_Moment(s.snapshot_id, s.at, s.live) for s in history()]
    line = list(ancestors_of(native.current_snapshot(), native.metadata))[::-1]
    return [_Moment(s.snapshot_id, datetime.fromtimestamp(s.timestamp_ms / 1000, UTC), True) for s in line]


def _by_id(
    native: NativeTable, snapshot_id: int, history: Callable[[], Sequence[SnapshotInfo]] | None
) -> int:
    if native.snapshot_by_id(snapshot_id) is not None:
        return snapshot_id
    moments = _moments(native, history)
    found = next((m for m in moments if m.snapshot_id == snapshot_id), None)
    if found is None:
        known = [m for m in moments if m.live]
        raise NotFoundError(f"table {_table(native)} has no snapshot {snapshot_id}", _nearest(known[-3:]))
    if not found.live:
        raise _expired(native, found, moments)
    return snapshot_id


def _at_time(native: NativeTable, at: datetime, history: Callable[[], Sequence[SnapshotInfo]] | None) -> int:
    if at.tzinfo is None:
        raise UserError(f"the time {at.isoformat()} has no zone", "give a time in UTC")
    own = _moments(native, None)
    # The newest ones are in the metadata, and most reads mean those.
    moments = own if own and own[0].at <= at else _moments(native, history)
    found = max((m for m in moments if m.at <= at), key=lambda m: m.at, default=None)
    # Of two in one millisecond the later one holds both.
    found = next((m for m in reversed(moments) if found and m.at == found.at), None)
    if found is None:
        raise NotFoundError(
            f"table {_table(native)} had no snapshot at {at.isoformat()}",
            _nearest([m for m in moments if m.live][:3]),
        )
    if not found.live:
        raise _expired(native, found, moments)
    return found.snapshot_id


def _by_name(native: NativeTable, name: str) -> int:
    refs = native.metadata.refs
    if name not in refs:
        known = ", ".join(f"{ref.name} ({ref.kind})" for ref in references(native)) or "none"
        raise NotFoundError(
            f"table {_table(native)} has no tag or branch {name!r}", f"tags and branches: {known}"
        )
    return int(refs[name].snapshot_id)


def _expired(native: NativeTable, gone: _Moment, moments: Sequence[_Moment]) -> NotFoundError:
    place = moments.index(gone)
    before = [m for m in moments[:place] if m.live][-1:]
    after = [m for m in moments[place + 1 :] if m.live][:1]
    return NotFoundError(
        f"snapshot {gone.snapshot_id} of table {_table(native)}, committed at {gone.at.isoformat()}, "
        "has expired: its files were deleted",
        _nearest([*before, *after]),
    )


def _nearest(moments: Sequence[_Moment]) -> str:
    shown = ", ".join(f"{m.snapshot_id} ({m.at.isoformat(timespec='milliseconds')})" for m in moments)
    return f"the nearest that can be read: {shown}" if shown else "nothing was committed that can be read"


def references(native: NativeTable) -> list[Reference]:
    """All tags and branches, sorted by name; `main` is there after the first commit."""
    return [
        Reference(name, ref.snapshot_ref_type.value, ref.snapshot_id)
        for name, ref in sorted(native.metadata.refs.items())
    ]


def tag(load: Callable[[], NativeTable], name: str, snapshot_id: int | None = None) -> Reference:
    """Give a snapshot a name that stays. Expiry leaves it alone until the tag is dropped.

    Args:
        load: gives the table freshly loaded.
        name: a letter, then letters, digits, `_`, `.` and `-`.
        snapshot_id: the current snapshot if None.

    Raises:
        UserError: the name is not one, or another snapshot has it.
        NotFoundError: the table's metadata does not hold the snapshot.
        ConflictError: other processes keep changing the table.
    """
    return _create(load, name, snapshot_id, SnapshotRefType.TAG)


def branch(load: Callable[[], NativeTable], name: str, snapshot_id: int | None = None) -> Reference:
    """Begin a branch at a snapshot. See `tag`."""
    return _create(load, name, snapshot_id, SnapshotRefType.BRANCH)


def drop(load: Callable[[], NativeTable], name: str) -> Reference:
    """Drop a tag or a branch; its snapshots may expire from now on.

    Raises:
        UserError: it is `main`.
        NotFoundError: there is none of this name.
        ConflictError: other processes keep changing the table.
    """
    if name == MAIN:
        raise UserError("the branch 'main' is the table itself", "drop another branch or tag")

    def change(native: NativeTable, manage: ManageSnapshots) -> Reference:
        snapshot_id = _by_name(native, name)
        ref = native.metadata.refs[name]
        is_tag = ref.snapshot_ref_type is SnapshotRefType.TAG
        (manage.remove_tag if is_tag else manage.remove_branch)(name)
        return Reference(name, ref.snapshot_ref_type.value, snapshot_id)

    return _commit(load, change)


def _create(
    load: Callable[[], NativeTable], name: str, snapshot_id: int | None, kind: SnapshotRefType
) -> Reference:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be the name of a {kind.value}",
            "begin with a letter; then letters, digits, '_', '.' and '-', at most 128",
        )

    def change(native: NativeTable, manage: ManageSnapshots) -> Reference:
        wanted = _named(native, snapshot_id)
        have: SnapshotRef | None = native.metadata.refs.get(name)
        if have is not None:
            if (have.snapshot_id, have.snapshot_ref_type) != (wanted, kind):
                raise UserError(
                    f"table {_table(native)} has a {have.snapshot_ref_type.value} {name!r} at snapshot "
                    f"{have.snapshot_id}",
                    "choose another name, or drop it first",
                )
            return Reference(name, kind.value, wanted)
        (manage.create_tag if kind is SnapshotRefType.TAG else manage.create_branch)(wanted, name)
        return Reference(name, kind.value, wanted)

    return _commit(load, change)


def _named(native: NativeTable, snapshot_id: int | None) -> int:
    if snapshot_id is None:
        current = native.current_snapshot()
        if current is None:
            raise NotFoundError(f"table {_table(native)} has no snapshot yet", "commit to it first")
        return int(current.snapshot_id)
    if native.snapshot_by_id(snapshot_id) is None:
        raise NotFoundError(
            f"the metadata of table {_table(native)} does not hold snapshot {snapshot_id}",
            _nearest(_moments(native, None)[-3:]) + "; hold an older one with a pin",
        )
    return snapshot_id


def _commit(
    load: Callable[[], NativeTable], change: Callable[[NativeTable, ManageSnapshots], Reference]
) -> Reference:
    for number in range(_TRIES):
        native = load()
        try:
            # Not `with`: pyiceberg commits at its end even when an error leaves it.
            manage = native.manage_snapshots()
            made = change(native, manage)
            manage.commit()
            return made
        except CommitFailedException:
            time.sleep(min(0.01 * 2**number, 0.5) * random.uniform(0.5, 1.5))  # noqa: S311
    raise ConflictError(f"{_table(load())} is being changed by others all the time", "try again")

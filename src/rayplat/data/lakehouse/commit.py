"""The fenced committer: files and the source offsets they cover, in one snapshot, once.

Knows that the offsets in a table's snapshots are the only ones that count; it does not know the source.
"""

import json
import random
import time
from collections.abc import Collection, Mapping, Sequence
from types import EllipsisType
from typing import Protocol

from rayplat.core.errors import ConflictError, RayplatError, UnavailableError
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.files import DataFile
from rayplat.data.lakehouse.head import Head
from rayplat.data.lakehouse.offsets import OFFSETS, SOURCE, committed_offsets
from rayplat.data.lakehouse.snapshot import ROWS, Base, SnapshotAttempt
from rayplat.data.lakehouse.table import LakeTable

_TRIES = 30
_UNKNOWN_OUTCOMES = 3


class Attempt(Protocol):
    """Makes one attempt, as `SnapshotAttempt` does."""

    def __call__(
        self,
        base: Base,
        files: Sequence[DataFile],
        properties: Mapping[str, str],
        *,
        removed: Collection[str] = ...,
    ) -> SnapshotAttempt:
        """An attempt that was not committed yet."""
        ...


class FencedCommitter:
    """Commits files of one source to one table, exactly once each.

    Every attempt loads the table, compares the committed offsets with those that the caller builds on,
    and commits only if nobody has committed since that load. So of two drivers that read the same
    records one wins, and the other is told so.

    Args:
        lake: the lakehouse.
        table_name: a table that exists.
        source: the name of the source; several sources may feed one table, each with its own offsets.
        attempt: makes one attempt; a seam for tests that lose acknowledgements.
    """

    def __init__(
        self, lake: Lakehouse, table_name: str, source: str, *, attempt: Attempt = SnapshotAttempt
    ) -> None:
        self.table: LakeTable = lake.table(table_name)
        self.source = source
        self._attempt = attempt

    def committed(self) -> dict[str, int]:
        """The next offset to read, by partition; empty if nothing was ever committed."""
        return committed_offsets(self.table.head().lineage(), self.source)

    def commit(
        self,
        files: Sequence[DataFile],
        expected: Mapping[str, int],
        offsets: Mapping[str, int],
        properties: Mapping[str, str] | None = None,
        *,
        removed: Collection[str] = (),
        based_on: int | EllipsisType | None = ...,
    ) -> int:
        """Add files and move the offsets, in one snapshot.

        Args:
            files: data files with the rows of all records in [expected, offsets); may be empty.
            expected: the offsets that the caller built on: what `committed` said before it read.
            offsets: the next offset, by partition, for the partitions that moved.
            properties: what else the snapshot is to say of itself.
            removed: addresses of live files that the snapshot takes out: those that `files` replace.
            based_on: the snapshot (None: the empty table) on which the change was planned, where the rows of
                others matter to it, as to a merge by key.

        Returns:
            The snapshot's id; also when the acknowledgement was lost and the commit had landed.

        Raises:
            ConflictError: the committed offsets are not `expected`: another driver is at work; or a file
                to be taken out is not live any more, or the table has moved on from `based_on`.
            UnavailableError: the catalog does not answer; whether anything was written will be seen by
                `committed`.
        """
        told = {
            SOURCE: self.source,
            OFFSETS: json.dumps({**expected, **offsets}, sort_keys=True),
            **(properties or {}),
        }
        tried: list[int] = []
        unknown = 0
        for number in range(_TRIES):
            base = self.table.base()
            if (landed := _landed(base.head, tried)) is not None:
                return landed
            self._check(base.head, expected, based_on)
            attempt = self._attempt(base, files, told, removed=removed)
            tried.append(attempt.snapshot_id)
            try:
                return attempt.commit()
            except ConflictError:
                if removed:
                    raise  # what is taken out was planned on a table that is not there any more
                # A writer without our source, or a zombie: the fence tells them apart.
                time.sleep(min(0.01 * 2**number, 0.5) * random.uniform(0.5, 1.5))  # noqa: S311
            except RayplatError:
                raise
            except Exception as error:
                unknown += 1
                if unknown > _UNKNOWN_OUTCOMES:
                    raise _unacknowledged(self.table.name, error) from error
        raise ConflictError(
            f"other writers of {self.table.name} were faster {_TRIES} times", "run the ingest again"
        )

    def _check(self, head: Head, expected: Mapping[str, int], based_on: int | EllipsisType | None) -> None:
        committed = committed_offsets(head.lineage(), self.source)
        if committed != dict(expected):
            raise ConflictError(
                f"{self.table.name} has the offsets {committed} of {self.source}, "
                f"and this driver built on {dict(expected)}",
                "another ingest of this table is running: let one of them go on alone",
            )
        if based_on is not ... and head.current_id != based_on:
            raise ConflictError(
                f"{self.table.name} was changed by another writer meanwhile", "plan the change again"
            )


def _unacknowledged(name: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the catalog did not acknowledge a commit to {name}: {error}",
        "run the ingest again: it continues from what was committed",
    )


def _landed(head: Head, tried: Sequence[int]) -> int | None:
    """Which of our attempts the table has, if any: their acknowledgement was lost."""
    if not tried:
        return None
    have = {snapshot["snapshot-id"] for snapshot in head.lineage()}
    return next((snapshot_id for snapshot_id in tried if snapshot_id in have), None)


def rows_property(rows: int) -> dict[str, str]:
    """The property that says how many rows a snapshot adds."""
    return {ROWS: str(rows)}

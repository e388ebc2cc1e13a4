"""Snapshots: one attempt to make a new one, and what past ones say of themselves.

Knows how files become a snapshot of a table in one transaction; it does not know whose files they
are, nor when to try again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.table import Table as NativeTable
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from rayplat.core.errors import ConflictError, IntegrityError

SOURCE = "rayplat.source"
OFFSETS = "rayplat.offsets"
ROWS = "rayplat.rows"


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a snapshot says of itself.

    Attributes:
        at: when it was committed, UTC.
        operation: `append`, `overwrite` or `delete`.
        rows_added: rows in the files it added; `rows_total`: rows in the table after it.
        source: where its rows came from; empty if it does not say.
        offsets: the next offset to read from the source, by partition; empty if it carries none.
        properties: everything else in its summary.
    """

    snapshot_id: int
    at: datetime
    operation: str
    rows_added: int
    rows_total: int
    source: str
    offsets: dict[str, int]
    properties: dict[str, str]


class SnapshotAttempt:
    """One attempt to make a snapshot of the table as it was loaded; used once.

    The snapshot's id is known before the commit, so that after a lost acknowledgement the table can
    be asked whether the attempt has landed.

    Args:
        native: the table, freshly loaded: the attempt succeeds only if nobody commits in between.
        files: addresses of Parquet files to add; may be empty.
        properties: what the snapshot is to say of itself.
        replace: whether all files of the table are taken out in the same snapshot.
    """

    def __init__(
        self,
        native: NativeTable,
        files: Sequence[str],
        properties: Mapping[str, str],
        *,
        replace: bool = False,
    ) -> None:
        self._transaction = native.transaction()
        update = self._transaction.update_snapshot(snapshot_properties=dict(properties))
        self._producer = update.overwrite() if replace else update.fast_append()
        if replace:
            for task in native.scan().plan_files():
                self._producer.delete_data_file(task.file)
        for file in files:
            self._producer.append_data_file(parquet_file_to_data_file(native.io, native.metadata, file))
        self.snapshot_id: int = self._producer.snapshot_id

    def commit(self) -> int:
        """Commit, once.

        Returns:
            The snapshot's id.

        Raises:
            ConflictError: somebody else has committed since the table was loaded; nothing was written.
            Exception: anything else leaves the outcome unknown: load the table and look for the id.
        """
        try:
            self._producer.commit()
            self._transaction.commit_transaction()
        except (CommitFailedException, ValidationException) as error:
            raise ConflictError(
                f"another writer was faster: {error}", "load the table and try again"
            ) from error
        return self.snapshot_id


def lineage(native: NativeTable) -> Iterator[Snapshot]:
    """The snapshots that lead to the current one, newest first. (Rolled-back ones are not among them.)"""
    yield from ancestors_of(native.current_snapshot(), native.metadata)


def committed_offsets(native: NativeTable, source: str) -> dict[str, int]:
    """The offsets of `source` in the newest snapshot that carries them; other writers may have come since.

    Raises:
        IntegrityError: the offsets cannot be read.
    """
    for snapshot in lineage(native):
        summary = snapshot.summary.additional_properties if snapshot.summary else {}
        if summary.get(SOURCE) == source and OFFSETS in summary:
            return parse_offsets(summary[OFFSETS], snapshot.snapshot_id)
    return {}


def parse_offsets(text: str, snapshot_id: int) -> dict[str, int]:
    """Read the property `rayplat.offsets`: a JSON object, partition to next offset.

    Raises:
        IntegrityError: it is something else.
    """
    try:
        return {str(partition): int(offset) for partition, offset in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise IntegrityError(
            f"snapshot {snapshot_id} has the offsets {text!r}, which are not a JSON object of numbers",
            "roll the table back to a snapshot with good offsets",
        ) from error


def describe(snapshot: Snapshot) -> SnapshotInfo:
    """What a snapshot says of itself, as a value."""
    summary = dict(snapshot.summary.additional_properties) if snapshot.summary else {}
    offsets = summary.get(OFFSETS)
    return SnapshotInfo(
        snapshot_id=snapshot.snapshot_id,
        at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
        operation=snapshot.summary.operation.value if snapshot.summary else "",
        rows_added=int(summary.get("added-records", 0)),
        rows_total=int(summary.get("total-records", 0)),
        source=summary.get(SOURCE, ""),
        offsets=parse_offsets(offsets, snapshot.snapshot_id) if offsets else {},
        properties=summary,
    )

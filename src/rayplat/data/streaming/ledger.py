"""The ledger of one ingest: a good table and its quarantine, moved forward together.

Knows the order of the two commits and why it is exactly once; it does not know how batches are made.

Exactly once, argued. Reading starts at the good table's committed offsets, so nothing before them is
read again, and everything behind them is. A batch is committed to the quarantine first and to the good
table second: when the good table's offsets pass a record, its verdict is durable, whichever it was.
If the driver dies between the two commits, the next one finds the quarantine ahead, asks it which
offsets behind the good table's it has, and leaves those out of both tables. Both commits are fenced by
their own table's offsets, so a second driver that read the same records is refused by one of them.
Files that no commit names are invisible. What remains: two drivers at the same moment whose *checks*
differ may put one record into both tables; the fence is looked at before the first commit to make that
a matter of milliseconds.
"""

from collections.abc import Callable, Mapping, Sequence

from rayplat.core.errors import ConflictError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.telemetry import counter, get_logger
from rayplat.data.lakehouse.commit import FencedCommitter, rows_property
from rayplat.data.streaming.batch import PartitionBatch

CRASH_POINTS = ("before_write", "after_write", "after_quarantine_commit", "after_commit")
"""The moments that `on_point` is told of, in the order in which each round passes them."""


class Ledger:
    """What one ingest has committed, and the only way to commit more.

    Args:
        good: the committer of the table; `quarantine`: that of its quarantine; one source for both.
        bus: is told of every snapshot, after it is durable.
        on_point: called at each of `CRASH_POINTS`.

    Attributes:
        offsets: the good table's next offset, by partition.
        rows, quarantined: how much this ledger has committed; `snapshots`: the good table's new ones.
    """

    def __init__(
        self,
        good: FencedCommitter,
        quarantine: FencedCommitter,
        bus: EventBus,
        on_point: Callable[[str], None],
    ) -> None:
        self.good = good
        self.quarantine = quarantine
        self.offsets = good.committed()
        self.rows = 0
        self.quarantined = 0
        self.snapshots: tuple[int, ...] = ()
        self._quarantine_offsets = quarantine.committed()
        self._bus = bus
        self._on_point = on_point

    def quarantined_from(self, partition: int, start: int) -> frozenset[int]:
        """The offsets from `start` on that the quarantine has: those of a batch that died halfway."""
        if self._quarantine_offsets.get(str(partition), start) <= start:
            return frozenset()
        where = f"partition = {partition} and offset >= {start}"
        rows = self.quarantine.table.read(["source", "offset"], where=where).to_pylist()
        return frozenset(row["offset"] for row in rows if row["source"] == self.good.source)

    def commit(self, batches: Sequence[PartitionBatch], starts: Mapping[str, int]) -> None:
        """Commit one round: the quarantined records, then the good rows.

        Args:
            batches: at most one a partition, each beginning where the partition stands.
            starts: where a partition stands of which nothing was ever committed.

        Raises:
            ConflictError: another driver is at work, or a batch begins elsewhere; nothing was doubled.
            UnavailableError: the catalog does not answer.
        """
        self._on_point("after_write")
        self._check_order(batches, {**starts, **self.offsets})
        moved = {str(batch.partition): batch.next_offset for batch in batches}
        rejected = sum(batch.quarantined for batch in batches)
        if rejected:
            self._check_fence()
            files = [batch.quarantine_file for batch in batches if batch.quarantine_file]
            self.quarantine.commit(files, self._quarantine_offsets, moved, rows_property(rejected))
            self._quarantine_offsets.update(moved)
            self.quarantined += rejected
        self._on_point("after_quarantine_commit")
        rows = sum(batch.rows for batch in batches)
        files = [batch.file for batch in batches if batch.file]
        snapshot_id = self.good.commit(files, self.offsets, moved, rows_property(rows))
        self._on_point("after_commit")
        self.offsets.update(moved)
        self.rows += rows
        self.snapshots += (snapshot_id,)
        self._tell(snapshot_id, rows, rejected)

    def _check_order(self, batches: Sequence[PartitionBatch], positions: Mapping[str, int]) -> None:
        for batch in batches:
            position = positions[str(batch.partition)]
            if batch.start != position:
                raise ConflictError(
                    f"partition {batch.partition} of {self.good.source} was to go on at {position}, "
                    f"and a worker that was started again read from {batch.start}",
                    "run the ingest again: it continues from what was committed",
                )

    def _check_fence(self) -> None:
        committed = self.good.committed()
        if committed != self.offsets:
            raise ConflictError(
                f"{self.good.table.name} has the offsets {committed} of {self.good.source}, "
                f"and this driver built on {self.offsets}",
                "another ingest of this table is running: let one of them go on alone",
            )

    def _tell(self, snapshot_id: int, rows: int, rejected: int) -> None:
        name = self.good.table.name
        counter("ingested_rows_total", "Rows committed by the ingest", ["table"]).labels(name).inc(rows)
        counter("quarantined_rows_total", "Records put aside by the ingest", ["table"]).labels(name).inc(
            rejected
        )
        get_logger("data.ingest").info(
            "committed", table=name, rows=rows, quarantined=rejected, snapshot_id=snapshot_id
        )
        self._bus.emit(
            SnapshotCommitted(
                table=name,
                snapshot_id=snapshot_id,
                rows=rows,
                source=self.good.source,
                offsets=dict(self.offsets),
            )
        )

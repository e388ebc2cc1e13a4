"""The ledger of one ingest: a good table and its side tables, moved forward together.

Knows the order of the commits of a round and why it is exactly once; it does not know how batches are made.

Exactly once, argued. Reading starts at the good table's committed offsets, so nothing before them is
read again, and everything behind them is. A round is committed to the side tables first (quarantine, dead
letters, late rows) and to the good table last: when the good table's offsets pass a record, its verdict is
durable, whichever it was. If the driver dies in between, the next one finds a side table ahead, asks it
which offsets behind the good table's it has, and leaves those out of all tables. Every commit is fenced
by its own table's offsets, so a second driver that read the same records is refused by one of them.
Files that no commit names are invisible. What remains: two drivers at the same moment whose *checks*
differ may put one record into two tables; the fence is looked at before the first commit to make that
a matter of milliseconds.

Every snapshot of the good table says what became of the records between its offsets and those before:
received = rows + quarantined + dead + late + ignored.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from rayplat.core.errors import ConflictError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.telemetry import get_logger
from rayplat.data.lakehouse.commit import FencedCommitter, rows_property
from rayplat.data.streaming.batch import PartitionBatch
from rayplat.data.streaming.fingerprint import LAST_RECORDS, parse
from rayplat.data.streaming.lateness import MAX_EVENT_TIME, advanced, committed_watermark
from rayplat.data.streaming.measures import told
from rayplat.data.streaming.settle import Round, Settler, give_up, tries
from rayplat.data.streaming.sides import LATE, SIDES
from rayplat.data.streaming.sources.source import PartitionId

CRASH_POINTS = (
    "before_write",
    "after_write",
    "after_quarantine_commit",
    "after_dead_commit",
    "after_late_commit",
    "after_commit",
)
"""The moments that `on_point` is told of, in the order in which each round passes them."""

# A service may run for months: what it remembers of its commits must not grow.
_REMEMBERED = 10_000
SOURCE_ID = "rayplat.source_id"
"""The snapshot property that tells one life of a source from another of the same name."""


class Ledger:
    """What one ingest has committed, and the only way to commit more.

    Args:
        good: the committer of the table; `sides`: those of its side tables; one source for all.
        settler: settles each round.
        bus: is told of every snapshot, after it is durable.
        on_point: called at each of `CRASH_POINTS`.
        identity: what the source says that it is; empty where it does not say.

    Attributes:
        offsets: the good table's next offset, by partition.
        watermark: the table's watermark, UTC.
        source_id: the identity that the good table's last snapshot was committed with.
        last_records: the fingerprint of the last record, by partition.
        totals: how many records this ledger has committed, by what became of them.
        snapshots: the good table's new ones, the last 10,000 of a long life.
    """

    def __init__(
        self,
        good: FencedCommitter,
        sides: Mapping[str, FencedCommitter],
        settler: Settler,
        bus: EventBus,
        *,
        on_point: Callable[[str], None],
        identity: str = "",
    ) -> None:
        self.good = good
        self.sides = dict(sides)
        self.offsets = good.committed()
        self.totals = dict.fromkeys(("rows", *SIDES, "ignored"), 0)
        self.snapshots: deque[int] = deque(maxlen=_REMEMBERED)
        last = self._last() if self.offsets else {}
        self.watermark = committed_watermark(last)
        self.source_id = last.get(SOURCE_ID, "")
        self.last_records = parse(last.get(LAST_RECORDS))
        self._identity = identity
        self._settler = settler
        self._side_offsets = {side: committer.committed() for side, committer in self.sides.items()}
        self._bus = bus
        self._on_point = on_point

    def _last(self) -> Mapping[str, str]:
        """The properties of the newest snapshot that carries this source's offsets."""
        for snapshot in reversed(self.good.table.history()):
            if snapshot.source == self.good.source and snapshot.offsets:
                return snapshot.properties
        return {}

    def held_from(self, partition: PartitionId, start: int) -> dict[str, frozenset[int]]:
        """By side table, the offsets from `start` on that it has: those of a round that died halfway."""
        held = {side: self._held(side, str(partition), start) for side in self.sides}
        return {side: offsets for side, offsets in held.items() if offsets}

    def _held(self, side: str, partition: str, start: int) -> frozenset[int]:
        if self._side_offsets[side].get(partition, start) <= start:
            return frozenset()
        table = self.sides[side].table
        if side == LATE:
            rows = table.read(["_partition", "_offset"]).to_pylist()
            found = (int(row["_offset"]) for row in rows if str(row["_partition"]) == partition)
        else:
            rows = table.read(["source", "offset"], where=f"partition = '{partition}'").to_pylist()
            found = (int(row["offset"]) for row in rows if row["source"] == self.good.source)
        return frozenset(offset for offset in found if offset >= start)

    def commit(self, batches: Sequence[PartitionBatch], starts: Mapping[str, int]) -> dict[str, str]:
        """Commit one round: what is put aside, then the good rows.

        Args:
            batches: at most one a partition, each beginning where the partition stands.
            starts: where a partition stands of which nothing was ever committed.

        Returns:
            What the good table's snapshot says of the round.

        Raises:
            ConflictError: another driver is at work, or a batch begins elsewhere; nothing was doubled.
            UnavailableError: the catalog does not answer.
            UserError: a table check stops the round; nothing was committed.
        """
        self._on_point("after_write")
        self._check_order(batches, {**starts, **self.offsets})
        moved = {str(batch.partition): batch.next_offset for batch in batches}
        round_ = self._settler.settle(batches)
        fenced = False
        for side in SIDES:
            files = round_.sides.get(side)
            if files:
                if not fenced:
                    self._check_fence()
                    fenced = True
                committer, offsets = self.sides[side], self._side_offsets[side]
                committer.commit(files, offsets, moved, rows_property(sum(file.rows for file in files)))
                offsets.update(moved)
            self._on_point(f"after_{side}_commit")
        self.last_records.update({str(batch.partition): batch.last for batch in batches if batch.last})
        properties = self._properties(round_)
        snapshot_id = self._commit_good(round_, moved, properties)
        self._on_point("after_commit")
        self.offsets.update(moved)
        self.snapshots.append(snapshot_id)
        self._tell(snapshot_id, round_)
        return properties

    def _properties(self, round_: Round) -> dict[str, str]:
        seen = max((b.seen for b in round_.batches if b.seen is not None), default=None)
        self.watermark = advanced(self.watermark, seen, datetime.now(UTC))
        properties = {**told(round_), **rows_property(round_.rows)}
        if self.watermark is not None:
            properties[MAX_EVENT_TIME] = self.watermark.isoformat()
        if self.last_records:
            properties[LAST_RECORDS] = json.dumps(self.last_records, sort_keys=True)
        if self._identity:
            properties[SOURCE_ID] = self._identity
        return properties

    def _commit_good(self, round_: Round, moved: Mapping[str, int], properties: Mapping[str, str]) -> int:
        if round_.merged is None:
            return self.good.commit(round_.files, self.offsets, moved, properties)
        for _ in tries():
            change = self._settler.merge(round_.merged)
            try:
                return self.good.commit(
                    change.added,
                    self.offsets,
                    moved,
                    properties,
                    removed=change.removed,
                    based_on=change.based_on,
                )
            except ConflictError:
                # Another writer has replaced a file of ours: that is no zombie, and the merge is made anew.
                self._check_fence()
        raise give_up(self.good.table.name)

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

    def _tell(self, snapshot_id: int, round_: Round) -> None:
        name = self.good.table.name
        self.totals["rows"] += round_.rows
        self.totals["ignored"] += sum(batch.ignored for batch in round_.batches)
        for side in SIDES:
            self.totals[side] += round_.counts[side]
        get_logger("data.ingest").info(
            "committed", table=name, rows=round_.rows, snapshot_id=snapshot_id, **round_.counts
        )
        self._bus.emit(
            SnapshotCommitted(
                table=name,
                snapshot_id=snapshot_id,
                rows=round_.rows,
                source=self.good.source,
                offsets=dict(self.offsets),
            )
        )
        if round_.findings is not None:
            round_.findings.tell(name, self._bus)

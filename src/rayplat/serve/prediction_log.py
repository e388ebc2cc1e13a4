"""The prediction log: durable before an answer is sent, and exactly once in the lakehouse later.

Knows how concurrent requests share one commit, and how the outbox is drained into the Iceberg table
`serving.predictions`; it does not know how a prediction is made.

A drain does, in this order: delete rows that the table has; write a batch as a Parquet file; commit it
with the next row id as the offset of the source `prediction-log`, fenced; delete the batch. A drain that
dies before its commit leaves a file that no snapshot names, one that dies after it leaves rows that the
next drain deletes. Of two drains at once, the later commit is refused.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

import pyarrow as pa

from rayplat.core.errors import IntegrityError, RayplatError, UnavailableError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.settings import Settings
from rayplat.core.telemetry import counter, histogram
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.serve.outbox import Outbox, PredictionRecord, microseconds

TABLE = "serving.predictions"
SOURCE = "prediction-log"
_PARTITION = "0"
_MOST_ROWS_A_COMMIT = 10_000
_DRAIN_ROWS = 50_000

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("prediction_id", pa.string(), nullable=False),
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("at", _TIME, nullable=False),
        pa.field("asked_at", _TIME, nullable=False),
        pa.field("request", pa.string(), nullable=False),
        pa.field("features", pa.string(), nullable=False),
        pa.field("provenance", pa.string(), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),
        pa.field("latency_s", pa.float64(), nullable=False),
    ]
)
"""The columns of `serving.predictions`; `request`, `features` and `provenance` are JSON objects."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain moved: rows that are new in the table, its snapshots, and the next row id."""

    rows: int
    snapshots: tuple[int, ...]
    next_id: int


@dataclass(slots=True)
class _Asked:
    records: Sequence[PredictionRecord]
    done: "Future[None]"


def _nothing(_point: str) -> None:
    return None


class PredictionLog:
    """The log of all predictions of one platform. Nothing is opened before the first use.

    Args:
        settings: names the database.
        reached: told the name of each point that a drain passes (`read`, `written`, `committed`,
            `deleted`); the tests of the promise end the process there.
    """

    def __init__(self, settings: Settings, reached: Callable[[str], None] = _nothing) -> None:
        self.outbox = Outbox(settings)
        self._reached = reached
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, records: Sequence[PredictionRecord]) -> "Future[None]":
        """Hand records to the writer; the future is done when they are durable. Never blocks.

        The future's error is UnavailableError when the database did not take them.
        """
        done: Future[None] = Future()
        with self._lock:
            if self._closed:
                raise UnavailableError("the prediction log is closed", "the replica is stopping: ask again")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="prediction-log", daemon=True)
                self._writer.start()
            self._asked.put(_Asked(records, done))
        return done

    def append(self, records: Sequence[PredictionRecord]) -> None:
        """Write records and return when they are durable.

        Raises:
            UnavailableError: the database did not take them.
        """
        self.submit(records).result()

    def find(self, prediction_id: str) -> PredictionRecord | None:
        """The record of a prediction that is not drained yet."""
        return self.outbox.find(prediction_id)

    def close(self) -> None:
        """Write what was submitted, then stop the writer. May be called twice."""
        with self._lock:
            self._closed, writer = True, self._writer
            self._writer = None
            if writer is not None:
                self._asked.put(None)
        if writer is not None:
            writer.join()
        self.outbox.close()

    def drain(self, lake: Lakehouse, settings: Settings, bus: EventBus) -> Drained:
        """Move the outbox into `serving.predictions`, exactly once; may die at any point and run again.

        Emits SnapshotCommitted for each snapshot.

        Raises:
            ConflictError: another drain committed first; this one may simply be called again.
            IntegrityError: the ids of the outbox do not fit what the table has.
        """
        outbox = self.outbox if settings == self.outbox.settings else Outbox(settings)
        table = lake.ensure_schema(TABLE, SCHEMA)
        committer = FencedCommitter(lake, TABLE, SOURCE)
        committed = dict(committer.committed())
        next_id, rows, snapshots = committed.get(_PARTITION, 1), 0, list[int]()
        last = outbox.last_id()
        if last < next_id - 1:
            raise IntegrityError(
                f"{TABLE} holds predictions up to row {next_id - 1}, but the outbox knows ids to {last}",
                "the database was replaced or restored without its catalog: restore both from one backup",
            )
        outbox.delete_below(next_id)
        while True:
            ids, records = outbox.read(next_id, _DRAIN_ROWS)
            self._reached("read")
            if not ids:
                return Drained(rows, tuple(snapshots), next_id)
            files = table.write_files(_arrow(records))
            self._reached("written")
            offsets = {_PARTITION: ids[-1] + 1}
            snapshots.append(committer.commit(files, committed, offsets))
            self._reached("committed")
            committed, next_id, rows = offsets, ids[-1] + 1, rows + len(ids)
            outbox.delete_below(next_id)
            self._reached("deleted")
            bus.emit(
                SnapshotCommitted(
                    table=TABLE, snapshot_id=snapshots[-1], rows=len(ids), source=SOURCE, offsets=offsets
                )
            )

    def _write(self) -> None:
        """The writer's thread: take what waits, commit it as one transaction, tell everybody."""
        seconds = histogram("prediction_log_commit_seconds", "time of a group commit of the prediction log")
        written = counter("prediction_log_rows_total", "predictions made durable")
        last = False
        while not last:
            group = [self._asked.get()]
            rows = len(group[0].records) if group[0] else 0
            with contextlib.suppress(queue.Empty):
                while group[-1] is not None and rows < _MOST_ROWS_A_COMMIT:
                    group.append(self._asked.get_nowait())
                    rows += len(group[-1].records) if group[-1] else 0
            last = group[-1] is None
            asked = [one for one in group if one is not None]
            with seconds.time():
                error = self._commit([record for one in asked for record in one.records])
            if error is None:
                written.inc(rows)
            for one in asked:
                _tell(one.done, error)

    def _commit(self, records: Sequence[PredictionRecord]) -> RayplatError | None:
        try:
            self.outbox.insert(records)
        except RayplatError as error:
            return error
        # Whatever else the driver raises must reach those who wait: a dead writer would hang every request.
        except Exception as error:
            return UnavailableError(
                f"the prediction log could not be written: {error}", "look at the database"
            )
        return None


def _tell(done: "Future[None]", error: RayplatError | None) -> None:
    with contextlib.suppress(InvalidStateError):  # who asked has gone away
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def _arrow(records: Sequence[PredictionRecord]) -> pa.Table:
    columns = {name: [getattr(record, name) for record in records] for name in SCHEMA.names}
    for name in ("at", "asked_at"):
        columns[name] = [microseconds(moment) for moment in columns[name]]
    return pa.table(
        {f.name: pa.array(columns[f.name], pa.int64() if f.type == _TIME else f.type) for f in SCHEMA}
    ).cast(SCHEMA)

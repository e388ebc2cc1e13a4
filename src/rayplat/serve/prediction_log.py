"""The prediction log: durable before an answer is sent, and exactly once in the lakehouse later.

Knows which class of log a platform has, how the class `database` shares one commit between concurrent
requests, and how what waits is drained into the Iceberg table `serving.predictions`; it does not know how a
prediction is made, nor the files of the class `local` (`log`).

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
from pathlib import Path
from typing import Protocol

from rayplat.core.errors import IntegrityError, RayplatError, UnavailableError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.settings import Settings
from rayplat.core.telemetry import counter, histogram
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.serve.log.keeper import Keeper
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.places import find_waiting, local_folder, ship_all
from rayplat.serve.log.replicated import open_replicated
from rayplat.serve.log.rows import SCHEMA, TABLE, arrow
from rayplat.serve.outbox import Outbox, PredictionRecord

SOURCE = "prediction-log"
_PARTITION = "0"
_MOST_ROWS_A_COMMIT = 10_000
_DRAIN_ROWS = 50_000

__all__ = ["SCHEMA", "SOURCE", "TABLE", "Drained", "Log", "PredictionLog", "open_prediction_log"]


class Log(Protocol):
    """Where a replica makes predictions durable."""

    def submit(self, records: Sequence[PredictionRecord]) -> "Future[None]":
        """Hand records over; the future is done when they are durable, else it has UnavailableError."""

    def close(self) -> None:
        """Make durable what was submitted, and stop."""


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
    """The log of class `database`, and the drain of every class. Nothing is opened before the first use.

    Args:
        settings: names the database and the home.
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
        """The record of a prediction that is not drained yet: in the outbox, or a file of this machine."""
        return self.outbox.find(prediction_id) or find_waiting(self.outbox.settings, prediction_id)

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
        """Move what waits into `serving.predictions`, exactly once; may die at any point and run again.

        What waits is the outbox, the write-ahead files of this machine, and the topic where the settings name
        one. Emits SnapshotCommitted for each snapshot.

        Raises:
            ConflictError: another drain committed first; this one may simply be called again.
            IntegrityError: the ids of the outbox, or the positions of the files, do not fit what the table
                has; or bytes of the files are damaged.
        """
        drained = self._drain_outbox(lake, settings, bus)
        shipped = ship_all(settings, lake, bus, reached=self._reached)
        return Drained(drained.rows + shipped.rows, (*drained.snapshots, *shipped.snapshots), drained.next_id)

    def _drain_outbox(self, lake: Lakehouse, settings: Settings, bus: EventBus) -> Drained:
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
            files = table.write_files(arrow(records))
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


class _KeptLog(LocalLog):
    """A local log whose machine has a keeper of the shipping."""

    def __init__(self, settings: Settings) -> None:
        folder = local_folder(settings)
        self._keeper = Keeper(folder, settings)
        super().__init__(folder, sync=settings.serve.log_sync, opened=self._keeper.start)

    def close(self) -> None:
        super().close()
        self._keeper.close()


def log_folder(settings: Settings) -> Path:
    """Where the write-ahead files of class `local` are on this machine."""
    return local_folder(settings)


def open_prediction_log(settings: Settings) -> Log:
    """The log of a replica, of the class that the settings name."""
    if settings.serve.log == "database":
        return PredictionLog(settings)
    return open_replicated(settings) if settings.serve.log == "replicated" else _KeptLog(settings)

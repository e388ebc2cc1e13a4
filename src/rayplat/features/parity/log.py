"""The feature log: every served vector, durable, and once in the lakehouse table `serving.feature_vectors`.

Knows how vectors come into a spool, from any thread, and when the spool is committed; it does not know how
vectors are made or proved, nor how a spool is committed once (`spool`).

A batch is one write to the spool, a file that a killed process leaves behind whole but for its last line.
Answers that stand ready in the online store have a quicker way, the `journal`.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson
import polars as pl
import pyarrow as pa

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.core.ids import new_prediction_id
from rayplat.core.settings import Settings
from rayplat.core.telemetry import counter, get_logger
from rayplat.features.lake import Lake
from rayplat.features.parity.backlog import MUCH_WAITING_BYTES, Backlog
from rayplat.features.parity.journal import MOST_ROWS, Journal
from rayplat.features.parity.journal import SUFFIX as ANSWERS
from rayplat.features.parity.journal_rows import tables_of
from rayplat.features.parity.spool import Read, Spool, recover, waiting
from rayplat.features.parity.vectors import SCHEMA, encode_rows

SUFFIX = ".spool"
_ROWS = 50_000
_SECONDS = 30.0


class Standing(Protocol):
    """How far a view had come when it was read."""

    @property
    def snapshot_id(self) -> int | None:
        """The snapshot of its source."""

    @property
    def offsets(self) -> Mapping[str, int]:
        """The next offset by partition."""


@dataclass(slots=True)
class _Batch:
    lines: bytes
    rows: int
    done: "Future[None]"


def vector_lines(
    asked: pl.DataFrame,
    features: pl.DataFrame,
    at: datetime,
    *,
    digests: Mapping[str, str],
    standing: Mapping[str, Standing],
    caller: str,
) -> bytes:
    """Served vectors as lines of the spool.

    Args:
        asked: the asking rows as `requests.request_frame` makes them.
        features: the served features, one row an asking row, full names as columns.
        at: the time of the question.
        digests: by view, the definition that was served (see `plan.Plan.digest`).
        standing: by feature view, how far it had come.
        caller: who asked, such as `sdk` or `feature-server`.
    """
    told: dict[str, dict[str, Any]] = {name: {"digest": digest} for name, digest in digests.items()}
    for name, reached in standing.items():
        told[name] |= {"snapshot_id": reached.snapshot_id, "offsets": dict(reached.offsets)}
    fixed = {
        "at": _micros(at),
        "logged_at": _micros(datetime.now(UTC)),
        "caller": caller,
        "views": orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode(),
    }
    requests = encode_rows(asked).to_list() if asked.width else ["{}"] * features.height
    return b"".join(
        orjson.dumps({"vector_id": new_prediction_id(), **fixed, "request": request, "features": served})
        + b"\n"
        for request, served in zip(requests, encode_rows(features).to_list(), strict=True)
    )


def _micros(moment: datetime) -> int:
    gap = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (gap.days * 86_400 + gap.seconds) * 1_000_000 + gap.microseconds


class FeatureLog:
    """The log of the vectors that one process serves. Nothing is opened before the first use.

    Args:
        folder: where the spools are; several processes may share it.
        lake: the lakehouse.
        rows: a spool is committed at about this many vectors, or after `seconds` since its first; None:
            at 50,000, and one of a journal at `journal.MOST_ROWS`.
        much_waiting: so many bytes wait before questions about many entities are refused, see `backlog`.
    """

    def __init__(
        self,
        folder: Path,
        lake: Lake,
        *,
        rows: int | None = None,
        seconds: float = _SECONDS,
        much_waiting: int = MUCH_WAITING_BYTES,
    ) -> None:
        self._folder = folder
        self._backlog = Backlog(folder, tuple(_READS), much_waiting)
        self._lake = lake
        self._rows = rows
        self._seconds = seconds
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, lines: bytes) -> "Future[None]":
        """Hand over lines of `vector_lines`; the future is done when they are in the spool. Never blocks.

        Raises:
            BacklogError: too much waits for the lakehouse; the vectors must not be served.
            UnavailableError: the log is closed.
        """
        rows = lines.count(b"\n")
        self._backlog.admit(rows)
        done: Future[None] = Future()
        with self._lock:
            if self._closed:
                raise UnavailableError("the feature log is closed", "the process is stopping: ask again")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="feature-log", daemon=True)
                self._writer.start()
            self._queue.put(_Batch(lines, rows, done))
        return done

    def append(self, lines: bytes) -> None:
        """Write lines and return when they are in the spool.

        Raises:
            BacklogError: too much waits for the lakehouse; the vectors must not be served.
            UnavailableError: the spool cannot be written.
        """
        self.submit(lines).result()

    def close(self) -> None:
        """Commit what was submitted, and stop. May be called twice.

        Raises:
            RayplatError: the lakehouse did not take it; the spool stays, and `recover` commits it later.
        """
        with self._lock:
            self._closed, writer = True, self._writer
            self._writer = None
            if writer is not None:
                self._queue.put(None)
        if writer is not None:
            writer.join()
        self.recover()

    def recover(self, before_each: Callable[[], object] = lambda: None) -> int:
        """Commit the spools that processes have left behind; how many vectors were committed.

        Args:
            before_each: called before each spool is looked at.
        """
        committed = 0
        for path in sorted(self._folder.glob("*")):
            if path.suffix in _READS:
                before_each()
                committed += recover(path, self._lake, _READS[path.suffix])
        return committed

    def waiting(self) -> int:
        """How many bytes wait for the lakehouse."""
        return sum(waiting(self._folder, suffix) for suffix in _READS)

    def journal(self) -> Journal:
        """A journal for answers that stand ready in the online store (see `journal`).

        Who closes it calls `recover` afterwards.
        """
        rows = self._rows or MOST_ROWS
        return Journal(self._folder, rows=rows, seconds=self._seconds, backlog=self._backlog)

    def _write(self) -> None:
        written = counter("feature_log_vectors_total", "served feature vectors in the log")
        spool: Spool | None = None
        last = False
        while not last:
            group, last = self._take(spool)
            try:
                if group:
                    spool = spool or self._open()
                    before = spool.bytes
                    spool.write([b.lines for b in group], sum(b.rows for b in group))
                    self._backlog.add(spool.bytes - before)
                    written.inc(sum(batch.rows for batch in group))
                error: RayplatError | None = None
            except OSError as failed:
                error = UnavailableError(
                    f"the feature log cannot be written: {failed}", f"look at {self._folder}"
                )
            for batch in group:
                _tell(batch.done, error)
            if spool is not None and (last or spool.due(self._rows or _ROWS, self._seconds)):
                self._hand_over(spool)
                spool = None

    def _open(self) -> Spool:
        self._backlog.look()
        return Spool(self._folder, SUFFIX)

    def _take(self, spool: "Spool | None") -> tuple[list[_Batch], bool]:
        """What waits; waits itself until there is something, or until the spool is due."""
        found: list[_Batch | None] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._queue.get(timeout=None if spool is None else spool.left(self._seconds)))
            while True:
                found.append(self._queue.get_nowait())
        return [batch for batch in found if batch is not None], None in found

    def _hand_over(self, spool: "Spool") -> None:
        """Commit a spool; where the lakehouse does not take it, it stays for `recover`."""
        spool.close()
        try:
            recover(spool.path, self._lake, _READS[SUFFIX])
        # Vectors are safe in the spool: a lakehouse that is away for a while must not end the writer.
        except Exception as error:
            get_logger(__name__).warning("feature_log_waits", spool=str(spool.path), error=str(error))


def open_feature_log(settings: Settings, lake: Lake) -> FeatureLog:
    """The feature log of a platform on this machine."""
    return FeatureLog(settings.home / "feature_log", lake)


def _lines(data: bytes, _name: str) -> list[pa.Table]:
    """The whole lines of a spool; a process that is killed while it writes leaves half a line."""
    rows = [orjson.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    kinds = {field.name: pa.int64() if pa.types.is_timestamp(field.type) else field.type for field in SCHEMA}
    return [pa.table({n: pa.array([row[n] for row in rows], kind) for n, kind in kinds.items()}).cast(SCHEMA)]


_READS: Mapping[str, Read] = {SUFFIX: _lines, ANSWERS: tables_of}


def _tell(done: "Future[None]", error: RayplatError | None) -> None:
    with contextlib.suppress(InvalidStateError):  # who asked has gone away
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

"""The feature log: every served vector, durable, and once in the lakehouse table `serving.feature_vectors`.

Knows how vectors wait in a spool file and how a spool becomes one snapshot; it does not know how vectors are
made or proved.

A batch is one write to the spool, a file that a killed process leaves behind whole but for its last line.
A spool is committed under its name: the snapshot says which spool it holds. Whoever recovers later commits
the spools of processes that are gone, and deletes those that a snapshot names. So a vector whose future is
done is in the table once, wherever the process is killed. The write is not flushed to the disk: a power
cut may take the last seconds.
"""

import contextlib
import fcntl
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol, cast

import orjson
import polars as pl
import pyarrow as pa

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.core.ids import new_prediction_id
from rayplat.core.settings import Settings
from rayplat.core.telemetry import counter, get_logger
from rayplat.features.lake import Lake
from rayplat.features.parity.vectors import SCHEMA, VECTORS, encode_rows

SPOOL = "rayplat.feature_log.spool"
"""The snapshot property that names the spool."""

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


class _Appendable(Protocol):
    def append(self, data: pa.Table, properties: Mapping[str, str] = ...) -> int: ...


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
    requests = encode_rows(asked) if asked.width else ["{}"] * features.height
    return b"".join(
        orjson.dumps({"vector_id": new_prediction_id(), **fixed, "request": request, "features": served})
        + b"\n"
        for request, served in zip(requests, encode_rows(features), strict=True)
    )


def _micros(moment: datetime) -> int:
    gap = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (gap.days * 86_400 + gap.seconds) * 1_000_000 + gap.microseconds


class FeatureLog:
    """The log of the vectors that one process serves. Nothing is opened before the first use.

    Args:
        folder: where the spools are; several processes may share it.
        lake: the lakehouse.
        rows: a spool is committed at about this many vectors, or after `seconds` since its first.
    """

    def __init__(self, folder: Path, lake: Lake, *, rows: int = _ROWS, seconds: float = _SECONDS) -> None:
        self._folder = folder
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
            UnavailableError: the log is closed.
        """
        done: Future[None] = Future()
        with self._lock:
            if self._closed:
                raise UnavailableError("the feature log is closed", "the process is stopping: ask again")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="feature-log", daemon=True)
                self._writer.start()
            self._queue.put(_Batch(lines, lines.count(b"\n"), done))
        return done

    def append(self, lines: bytes) -> None:
        """Write lines and return when they are in the spool.

        Raises:
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

    def recover(self) -> int:
        """Commit the spools that processes have left behind; how many vectors were committed."""
        return sum(_recover(path, self._lake) for path in sorted(self._folder.glob("*.spool")))

    def _write(self) -> None:
        written = counter("feature_log_vectors_total", "served feature vectors in the log")
        spool: _Spool | None = None
        last = False
        while not last:
            group, last = self._take(spool)
            try:
                if group:
                    spool = spool or _Spool(self._folder)
                    spool.write(group)
                    written.inc(sum(batch.rows for batch in group))
                error: RayplatError | None = None
            except OSError as failed:
                error = UnavailableError(
                    f"the feature log cannot be written: {failed}", f"look at {self._folder}"
                )
            for batch in group:
                _tell(batch.done, error)
            if spool is not None and (last or spool.due(self._rows, self._seconds)):
                self._hand_over(spool)
                spool = None

    def _take(self, spool: "_Spool | None") -> tuple[list[_Batch], bool]:
        """What waits; waits itself until there is something, or until the spool is due."""
        found: list[_Batch | None] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._queue.get(timeout=None if spool is None else spool.left(self._seconds)))
            while True:
                found.append(self._queue.get_nowait())
        return [batch for batch in found if batch is not None], None in found

    def _hand_over(self, spool: "_Spool") -> None:
        """Commit a spool; where the lakehouse does not take it, it stays for `recover`."""
        spool.close()
        try:
            _recover(spool.path, self._lake)
        # Vectors are safe in the spool: a lakehouse that is away for a while must not end the writer.
        except Exception as error:
            get_logger(__name__).warning("feature_log_waits", spool=str(spool.path), error=str(error))


def open_feature_log(settings: Settings, lake: Lake) -> FeatureLog:
    """The feature log of a platform on this machine."""
    return FeatureLog(settings.home / "feature_log", lake)


class _Spool:
    """A file that one process appends to; locked as long as that process lives."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{new_prediction_id()}.spool"
        # Under another name until it is locked: nobody may take it for one that was left behind.
        bare = self.path.with_suffix(".new")
        self._file = bare.open("ab", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        bare.rename(self.path)
        self._rows = 0
        self._since = time.monotonic()

    def write(self, batches: Sequence[_Batch]) -> None:
        """Append batches by one write."""
        data = memoryview(b"".join(batch.lines for batch in batches))
        while data:
            data = data[os.write(self._file.fileno(), data) :]
        self._rows += sum(batch.rows for batch in batches)

    def left(self, seconds: float) -> float:
        """Seconds until it is due."""
        return max(0.0, self._since + seconds - time.monotonic())

    def due(self, rows: int, seconds: float) -> bool:
        """Whether it is to be committed."""
        return self._rows >= rows or self.left(seconds) == 0.0

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._file.close()


def _recover(path: Path, lake: Lake) -> int:
    """Commit a spool unless a snapshot has it, then delete it; 0 where its process lives."""
    try:
        file: IO[bytes] = path.open("rb")
    except FileNotFoundError:
        return 0  # another process was faster
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        if not path.exists():
            return 0
        rows = _lines(file.read())
        table = lake.ensure_schema(VECTORS, SCHEMA)
        have = any(snapshot.properties.get(SPOOL) == path.name for snapshot in table.history())
        if rows and not have:
            cast("_Appendable", table).append(_arrow(rows), {SPOOL: path.name})
        path.unlink()
        return 0 if have else len(rows)


def _lines(data: bytes) -> list[dict[str, Any]]:
    """The whole lines of a spool; a process that is killed while it writes leaves half a line."""
    return [orjson.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def _arrow(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {field.name: pa.int64() if pa.types.is_timestamp(field.type) else field.type for field in SCHEMA}
    return pa.table({n: pa.array([row[n] for row in rows], kind) for n, kind in kinds.items()}).cast(SCHEMA)


def _tell(done: "Future[None]", error: RayplatError | None) -> None:
    with contextlib.suppress(InvalidStateError):  # who asked has gone away
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

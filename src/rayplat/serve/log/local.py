"""The prediction log of class `local`: a write-ahead file on this machine's disk, shipped later.

Knows when a record may be acknowledged, and that concurrent requests share one flush; it does not know the
lakehouse, nor where else its bytes may have to be (`mirror`).

What an acknowledgement promises, by `sync`:
- `disk`: the record survives any process, and a power cut, as long as the disk survives. It was flushed
  (fdatasync) before; the requests that arrive during one flush share the next.
- `process`: the record survives any process, but a power cut or a kernel panic may take the last seconds. It
  is in the operating system's hands; nothing is waited for.
Neither survives the loss of the disk.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import Literal, Protocol

from rayplat.core.errors import UnavailableError
from rayplat.core.telemetry import counter, gauge
from rayplat.serve.log.frames import frame, scan
from rayplat.serve.log.rows import payload, records_of
from rayplat.serve.log.slot import Slot, hold, segments, slots, waiting_bytes
from rayplat.serve.outbox import PredictionRecord

Sync = Literal["disk", "process"]
FILE_BYTES = 32 << 20
MOST_WAITING_BYTES = 8 << 30
"""So much may wait in a slot for the lakehouse before the log refuses more."""

_LOOK_S = 0.5

_Waiting = queue.SimpleQueue["tuple[Future[None], int] | None"]
"""Futures, and the number of the file's trust that they were written under."""


def _nothing() -> None:
    return None


class Elsewhere(Protocol):
    """Another place where the bytes of a slot must be before a record is acknowledged. For one thread."""

    def send(self, slot: Path, start: int, size: int) -> None:
        """Send all bytes up to `size` bytes of the file that starts at `start`; never raises."""

    def wait(self) -> None:
        """Return when what was sent is there.

        Raises:
            UnavailableError: nobody has taken it.
        """

    def close(self) -> None:
        """Let go of the other place."""


class LocalLog:
    """The log of one process. Nothing is opened before the first use. Safe for many threads.

    Args:
        folder: of the slots; the processes of a machine share it.
        sync: what an acknowledgement promises, see above.
        file_bytes: a file is closed at about this size.
        most_waiting: so many bytes may wait to be shipped.
        opened: called once, when the first record comes.
        flush: puts a descriptor's data on the disk; a seam for tests of a disk that fails.
        take: holds the slot.
        elsewhere: where the bytes must be too before they are acknowledged; closed with the log.
        clock: s, for looking again how much waits.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sync: Sync = "disk",
        file_bytes: int = FILE_BYTES,
        most_waiting: int = MOST_WAITING_BYTES,
        opened: Callable[[], None] = _nothing,
        flush: Callable[[int], None] = os.fdatasync,
        take: Callable[[Path], Slot] = hold,
        elsewhere: Elsewhere | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._sync = sync
        self._file_bytes = file_bytes
        self._most_waiting = most_waiting
        self._opened = opened
        self._flush = flush
        self._take = take
        self._elsewhere = elsewhere
        self._clock = clock
        self._waits = sync == "disk" or elsewhere is not None
        self._slot: Slot | None = None
        self._flusher: threading.Thread | None = None
        self._waiting: _Waiting = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        # Raised when a file is given up: what was written to it before is vouched for no more.
        self._trust = 0
        self._written = counter("prediction_log_rows_total", "predictions made durable")
        self._waiting_bytes = gauge(
            "prediction_log_waiting_bytes", "of the files of this process that are not shipped"
        )
        self._look_at = 0.0
        self._waits_bytes = 0

    def submit(self, records: Sequence[PredictionRecord]) -> "Future[None]":
        """Write records; the future is done when they are durable as `sync` promises.

        The future's error is UnavailableError when the disk did not take them.

        Raises:
            UnavailableError: the log is closed.
        """
        done: Future[None] = Future()
        data = frame(payload(records))
        with self._lock:
            if self._closed:
                raise UnavailableError("the prediction log is closed", "the replica is stopping: ask again")
            try:
                self._room().write(data)
            except UnavailableError as error:
                done.set_exception(error)
                return done
            except OSError as error:
                self._give_up(done, error)
                return done
            if self._waits:
                self._waiting.put((done, self._trust))
        if not self._waits:
            done.set_result(None)
        self._written.inc(len(records))
        return done

    def append(self, records: Sequence[PredictionRecord]) -> None:
        """Write records and return when they are durable.

        Raises:
            UnavailableError: the disk did not take them.
        """
        self.submit(records).result()

    def find(self, prediction_id: str) -> PredictionRecord | None:
        """The record of a prediction that waits in a file of this machine."""
        return find(self._folder, prediction_id)

    def close(self) -> None:
        """Make durable what was submitted, and let go of the slot. May be called twice."""
        with self._lock:
            self._closed, flusher = True, self._flusher
            self._flusher = None
            if flusher is not None:
                self._waiting.put(None)
        if flusher is not None:
            flusher.join()
        if self._elsewhere is not None:
            self._elsewhere.close()
        with self._lock:
            if self._slot is not None:
                self._slot.close()
                self._slot = None

    def _room(self) -> Slot:
        """The slot, with room in its file."""
        if self._slot is None:
            self._slot = self._take(self._folder)
            self._slot.begin()
            if self._waits:
                self._flusher = threading.Thread(target=self._work, name="prediction-log", daemon=True)
                self._flusher.start()
            self._opened()
        elif self._slot.size >= self._file_bytes:
            self._check_waiting(self._slot)
            if self._sync == "disk":
                self._flush(self._slot.file)  # who waits for this file's flush will flush another one
            self._slot.begin()
        return self._slot

    def _check_waiting(self, slot: Slot) -> None:
        """Begin no further file while too much waits, and look again after a moment.

        Raises:
            UnavailableError: too much waits.
        """
        now = self._clock()
        if now >= self._look_at:
            self._waits_bytes = waiting_bytes(slot.folder)
            self._waiting_bytes.set(self._waits_bytes)
            self._look_at = now + _LOOK_S if self._waits_bytes > self._most_waiting else 0.0
        if self._waits_bytes > self._most_waiting:
            raise UnavailableError(
                f"{self._waits_bytes:,} bytes wait for the lakehouse, over {self._most_waiting:,}",
                "see why they are not shipped: the log of the replica's machine, and the warehouse",
            )

    def _work(self) -> None:
        """The flusher's thread: one flush for all that were written before it began."""
        last = False
        while not last:
            group = [self._waiting.get()]
            # The file may be closed meanwhile by who writes; a descriptor of our own stays good.
            with self._lock:
                with contextlib.suppress(queue.Empty):
                    while True:
                        group.append(self._waiting.get_nowait())
                last = None in group
                given_up = [one[0] for one in group if one is not None and one[1] != self._trust]
                waiting = [one[0] for one in group if one is not None and one[1] == self._trust]
                for done in given_up:
                    _tell(done, _unwritten(self._folder, OSError("its file was given up")))
                if not waiting or self._slot is None:
                    continue
                number = os.dup(self._slot.file)
                place = (self._slot.folder, self._slot.start, self._slot.size)
            if self._elsewhere is not None:
                self._elsewhere.send(*place)  # the other disk works while this one does
            try:
                if self._sync == "disk":
                    self._flush(number)
            except OSError as error:
                self._uncertain(waiting, error)
                continue
            finally:
                os.close(number)
                missed = self._missed()
            for done in waiting:
                _tell(done, missed)

    def _missed(self) -> UnavailableError | None:
        """Why the bytes that were sent are not elsewhere; None: they are, or need not be."""
        if self._elsewhere is None:
            return None
        try:
            self._elsewhere.wait()
        except UnavailableError as error:
            return error
        return None

    def _uncertain(self, waiting: "Sequence[Future[None]]", error: OSError) -> None:
        """After a flush that failed nobody knows what is on the disk: none of it is vouched for."""
        with self._lock:
            for done in waiting:
                _tell(done, _unwritten(self._folder, error))
            self._give_up(None, error)

    def _give_up(self, done: "Future[None] | None", error: OSError) -> None:
        """Write no more to the file; tell who asked, and who waits for a flush of it."""
        self._trust += 1
        if self._slot is not None:
            self._slot.abandon()
        refused = [] if done is None else [done]
        ending = False
        with contextlib.suppress(queue.Empty):
            while True:
                one = self._waiting.get_nowait()
                if one is None:
                    ending = True
                else:
                    refused.append(one[0])
        if ending:
            self._waiting.put(None)
        for future in refused:
            _tell(future, _unwritten(self._folder, error))


def find(folder: Path, prediction_id: str) -> PredictionRecord | None:
    """The record of a prediction that waits in the files of a folder."""
    wanted = prediction_id.encode()
    for segment in (s for slot in slots(folder) for s in segments(slot)):
        try:
            data = segment.path.read_bytes()
        except FileNotFoundError:  # it has just been shipped
            continue
        if wanted in data:
            for found in scan(data).payloads:
                if wanted in found:
                    for record in records_of(found):
                        if record.prediction_id == prediction_id:
                            return record
    return None


def _unwritten(folder: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the prediction log could not be written: {error}", f"look at the disk of {folder}"
    )


def _tell(done: "Future[None]", error: UnavailableError | None) -> None:
    with contextlib.suppress(InvalidStateError):  # who asked has gone away
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

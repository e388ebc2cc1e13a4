"""A version that is asked beside: what it says reaches the log and nobody else.

Knows when a shadow is asked and how its records name the answers they stand beside; it does not know who is
asked beside (`arms`). It is asked on a thread of its own, after the answer was made, many requests at a time:
a thread that takes each as it comes would fight with the event loop for the interpreter. Where it has read
the features that the answer was made from, they are not read again. What it has no time for is left out and
counted.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from rayplat.core.errors import RayplatError
from rayplat.core.telemetry import counter, get_logger
from rayplat.serve.outbox import SHADOW, PredictionRecord
from rayplat.serve.predicted import Part, runs
from rayplat.serve.predictor import Answer, Asked, Predictor
from rayplat.serve.served import Answering

LINGER_S = 0.02
"""How long requests are waited for when one has come. Nobody waits for a shadow."""

MOST_TOGETHER = 128
"""So many requests are asked together: the event loop may have to wait for so many."""

_MOST_WAITING = 1000


class ShadowLog(Protocol):
    """Where what a shadow said is kept."""

    def submit(self, records: Sequence[PredictionRecord]) -> "Future[None]":
        """See `Log.submit`."""


@dataclass(frozen=True, slots=True)
class _Beside:
    asked: Sequence[Asked]
    answers: Sequence[Answer]


class Shadow:
    """A version that is asked beside.

    Args:
        version: answers.
        log: keeps what it says.
        most: so many batches may wait.
    """

    def __init__(
        self, version: Answering, log: Callable[[], ShadowLog], *, most: int = _MOST_WAITING
    ) -> None:
        self._version = version
        self._log = log
        self._most = most
        self._waiting: queue.SimpleQueue[_Beside | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._left_out = counter(
            "serve_shadow_left_out_total", "questions that no shadow was asked", ("endpoint", "cause")
        )
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def ask(self, asked: Sequence[Asked], answers: Sequence[Answer]) -> None:
        """Ask it questions that were answered, when there is time. Never blocks."""
        one = _Beside(asked, answers)
        if self._waiting.qsize() < self._most:
            self._waiting.put(one)
        else:
            self._lose([one], "slow")

    def close(self) -> None:
        """Ask it what waits, and stop. May be called twice."""
        self._closing.set()
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        last = False
        while not last:
            one = self._waiting.get()
            if self._waiting.empty():
                self._closing.wait(LINGER_S)
            group, count = [], 0
            while one is not None:
                group.append(one)
                count += len(one.asked)
                if count >= MOST_TOGETHER:
                    break
                try:
                    one = self._waiting.get_nowait()
                except queue.Empty:
                    break
            last = one is None
            if group and not self._at_once(group):
                for each in group:
                    self._asked(each)

    def _at_once(self, group: Sequence[_Beside]) -> bool:
        """Ask it about answers from what was read for them; False where it reads something else."""
        version = self._version
        if not isinstance(version, Predictor):
            return False
        parts = runs(answer.records for one in group for answer in one.answers)
        known = [part for part in parts if isinstance(part, Part)]
        if len(known) < len(parts):
            return False
        try:
            said = version.beside(known)
            if said is None:
                return False
            self._keep(group, Part(said, 0, len(said.ids)))
        # Whatever a shadow does, its thread goes on and nobody else hears of it.
        except Exception as error:
            self._failed(group, error)
        return True

    def _asked(self, one: _Beside) -> None:
        try:
            said = self._version.answer(one.asked)
            records = [
                replace(record, arm=SHADOW, beside=first.prediction_id)
                for answer, answered in zip(said, one.answers, strict=True)
                for record, first in zip(answer.records, answered.records, strict=True)
            ]
            self._keep([one], records)
        # As above.
        except Exception as error:
            self._failed([one], error)

    def _keep(self, group: Sequence[_Beside], records: Sequence[PredictionRecord]) -> None:
        self._log().submit(records).add_done_callback(lambda done: self._logged(group, done))

    def _failed(self, group: Sequence[_Beside], error: Exception) -> None:
        self._lose(group, "log" if isinstance(error, RayplatError) else "failed")
        get_logger("serve.arms").warning("a shadow failed", error=str(error))

    def _logged(self, group: Sequence[_Beside], done: "Future[None]") -> None:
        with contextlib.suppress(Exception):
            if done.exception() is not None:
                self._lose(group, "log")

    def _lose(self, group: Sequence[_Beside], cause: str) -> None:
        count = sum(len(one.asked) for one in group)
        self._left_out.labels(self._version.endpoint, cause).inc(count)

"""The arms of one endpoint: champion and canary answer, a shadow is asked beside.

Knows who is asked what and how a record says so; it does not know what a share is decided by (`traffic`), nor
what happens when the champion fails (`guarded`). What a shadow says reaches the log and nobody else: it is
asked on a thread of its own, after the answer was made, and what it has no time for is left out and counted.
"""

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from rayplat.core.errors import RayplatError, UserError
from rayplat.core.project.serving import Traffic
from rayplat.core.telemetry import counter, get_logger
from rayplat.serve.arms.traffic import assigned
from rayplat.serve.outbox import SHADOW, PredictionRecord
from rayplat.serve.predictor import Answer, Asked
from rayplat.serve.served import Answering

_MOST_WAITING = 1000
"""So many batches may wait for a shadow."""

_GOLDEN = 0x9E37_79B9


class ShadowLog(Protocol):
    """Where what a shadow said is kept."""

    def submit(self, records: Sequence[PredictionRecord]) -> "Future[None]":
        """See `Log.submit`."""


class Arms:
    """Answers as its champion, but for the canary's share.

    Args:
        champion: answers, and describes the endpoint.
        canary: answers a share; None: nobody does.
        shadow: see `Shadow`; None: there is none.
    """

    def __init__(
        self,
        champion: Answering,
        traffic: Traffic,
        *,
        canary: Answering | None = None,
        shadow: "Shadow | None" = None,
    ) -> None:
        self._champion = champion
        self._canary = canary if traffic.canary > 0 else None
        self._shadow = shadow
        self._traffic = traffic
        self._count = itertools.count()
        self.endpoint, self.model = champion.endpoint, champion.model
        self.version, self.inputs = champion.version, champion.inputs
        self._failed = counter(
            "serve_canary_failures_total", "batches that the champion answered for it", ("endpoint",)
        )

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """Answer questions that are all of one time; see `Predictor.answer`."""
        if self._canary is None and self._shadow is None:
            return self._champion.answer(asked)
        keys = [self._key(one) for one in asked]
        answers = self._answers(asked, keys)
        if self._shadow is not None:
            share = self._traffic.shadow
            beside = [
                (one, answer)
                for one, key, answer in zip(asked, keys, answers, strict=True)
                if assigned(share, key, b"shadow")
            ]
            if beside:
                self._shadow.ask(beside)
        return answers

    def close(self) -> None:
        """Ask the shadow what waits for it, and stop."""
        if self._shadow is not None:
            self._shadow.close()

    def _key(self, one: Asked) -> bytes:
        if self._traffic.by is not None:
            return str(one.question.instances[0].get(self._traffic.by)).encode("utf-8", "surrogatepass")
        if one.key is not None:
            return one.key.encode("utf-8", "surrogatepass")
        return (next(self._count) * _GOLDEN % (1 << 64)).to_bytes(8, "little")

    def _answers(self, asked: Sequence[Asked], keys: Sequence[bytes]) -> list[Answer]:
        canary = self._canary
        if canary is None:
            return self._champion.answer(asked)
        theirs = [place for place, key in enumerate(keys) if assigned(self._traffic.canary, key, b"canary")]
        if not theirs:
            return self._champion.answer(asked)
        tried = self._tried(canary, [asked[place] for place in theirs])
        if tried is None:
            return self._champion.answer(asked)
        told = dict(zip(theirs, tried, strict=True))
        ours = [place for place in range(len(asked)) if place not in told]
        if ours:
            told |= zip(ours, self._champion.answer([asked[place] for place in ours]), strict=True)
        return [told[place] for place in range(len(asked))]

    def _tried(self, canary: Answering, asked: Sequence[Asked]) -> list[Answer] | None:
        """The canary's answers; None where it has failed, which is nobody's but its own affair."""
        try:
            return canary.answer(asked)
        except UserError:
            raise
        # Whatever a new version does, the one that was good answers.
        except Exception as error:
            self._failed.labels(self.endpoint).inc()
            get_logger("serve.arms").error("the canary failed", version=canary.version, exc_info=error)
            return None


@dataclass(frozen=True, slots=True)
class _Beside:
    asked: list[Asked]
    answers: list[Answer]


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
        self._waiting: queue.Queue[_Beside | None] = queue.Queue(most)
        self._left_out = counter(
            "serve_shadow_left_out_total", "questions that no shadow was asked", ("endpoint", "cause")
        )
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def ask(self, beside: Sequence[tuple[Asked, Answer]]) -> None:
        """Ask it questions that were answered, when there is time. Never blocks."""
        one = _Beside([asked for asked, _ in beside], [answer for _, answer in beside])
        try:
            self._waiting.put_nowait(one)
        except queue.Full:
            self._lose(one, "slow")

    def close(self) -> None:
        """Ask it what waits, and stop. May be called twice."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (one := self._waiting.get()) is not None:
            try:
                said = self._version.answer(one.asked)
                records = [
                    replace(record, arm=SHADOW, beside=first.prediction_id)
                    for answer, answered in zip(said, one.answers, strict=True)
                    for record, first in zip(answer.records, answered.records, strict=True)
                ]
                self._log().submit(records).add_done_callback(lambda done, one=one: self._logged(one, done))  # type: ignore[misc]
            # Whatever a shadow does, its thread goes on and nobody else hears of it.
            except Exception as error:
                self._lose(one, "log" if isinstance(error, RayplatError) else "failed")
                get_logger("serve.arms").warning("a shadow failed", error=str(error))

    def _logged(self, one: _Beside, done: "Future[None]") -> None:
        with contextlib.suppress(Exception):
            if done.exception() is not None:
                self._lose(one, "log")

    def _lose(self, one: _Beside, cause: str) -> None:
        self._left_out.labels(self._version.endpoint, cause).inc(len(one.asked))

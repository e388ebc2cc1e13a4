"""A version behind a circuit breaker: when it fails or takes too long, something else answers.

Knows when the version is asked and what stands in for it; it does not know the breaker's arithmetic
(`admission.breaker`). A question whose features cannot be had by its own fault is no failure of the version.

A question that fails is answered by what stands in, also before the breaker opens. A call that takes too long
is given up, not stopped (no thread can be): until it ends, the version counts as failing and is not asked.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.telemetry import counter, gauge, get_logger
from rayplat.serve.admission.breaker import Breaker, Rule
from rayplat.serve.outbox import CHAMPION
from rayplat.serve.predictor import Answer, Asked
from rayplat.serve.served import Answering

_STATES = {"closed": 0, "half_open": 1, "open": 2}
InsteadOf = Callable[[Sequence[Asked]], list[Answer]]
"""Answers in place of a version, in records of its own arm."""


class Guarded:
    """Answers as a version does while it is well. Safe for many threads.

    Args:
        first: the version.
        instead: answers when it does not.
        rule: when the breaker opens and closes.
        timeout_s: a call that takes longer has failed; None: it may take as long as it likes.
        arm: of the version, for the metrics.
        clock: s.
    """

    def __init__(
        self,
        first: Answering,
        instead: InsteadOf,
        *,
        arm: str = CHAMPION,
        rule: Rule | None = None,
        timeout_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first
        self._instead = instead
        self._breaker = Breaker(rule or Rule())
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._beside = None if timeout_s is None else _Beside(first)
        self.endpoint, self.model = first.endpoint, first.model
        self.version, self.inputs = first.version, first.inputs
        self._stood_in = counter(
            "serve_fallback_total", "questions that something else has answered", ("endpoint", "arm")
        ).labels(first.endpoint, arm)
        self._state = gauge(
            "serve_breaker_state",
            "of the circuit breaker: 0 closed, 1 half open, 2 open",
            ("endpoint", "arm"),
        ).labels(first.endpoint, arm)

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """Answer questions that are all of one time; see `Predictor.answer`.

        Raises:
            UserError: as the version does.
            Exception: what stands in has failed too.
        """
        with self._lock:
            self._breaker, ask = self._breaker.ask(self._clock())
        if not ask:
            return self._stand_in(asked)
        try:
            answers = self._asked(asked)
        except UserError:
            self._heard(None)
            raise
        # Whatever it is: the version cannot answer, and who asked shall have an answer.
        except Exception as error:
            self._heard(False)
            get_logger("serve.arms").error("a version failed", version=self.version, exc_info=error)
            return self._stand_in(asked)
        self._heard(True)
        return answers

    def close(self) -> None:
        """Ask the version no more."""
        if self._beside is not None:
            self._beside.close()

    def _asked(self, asked: Sequence[Asked]) -> list[Answer]:
        if self._beside is None or self._timeout_s is None:
            return self._first.answer(asked)
        return self._beside.answer(asked, self._timeout_s)

    def _heard(self, good: bool | None) -> None:
        with self._lock:
            before = self._breaker.state
            now = self._clock()
            self._breaker = self._breaker.forgot() if good is None else self._breaker.told(good, now)
            after = self._breaker.state
        if after != before:
            self._state.set(_STATES[after])
            get_logger("serve.arms").warning(
                "the circuit breaker has changed", endpoint=self.endpoint, version=self.version, state=after
            )

    def _stand_in(self, asked: Sequence[Asked]) -> list[Answer]:
        self._stood_in.inc(len(asked))
        return self._instead(asked)


class _Beside:
    """Asks a version on a thread of its own; a call that never ends keeps nobody but this thread."""

    def __init__(self, version: Answering) -> None:
        self._version = version
        self._late: Future[list[Answer]] | None = None
        self._asked: queue.SimpleQueue[tuple[Sequence[Asked], Future[list[Answer]]] | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, name="guarded", daemon=True).start()

    def answer(self, asked: Sequence[Asked], timeout_s: float) -> list[Answer]:
        """The answers.

        Raises:
            UnavailableError: they take too long, or an earlier call still does.
        """
        if self._late is not None and not self._late.done():
            raise UnavailableError("the version is still at work on an earlier question", "ask again")
        done: Future[list[Answer]] = Future()
        self._asked.put((asked, done))
        try:
            return done.result(timeout_s)
        except LateError:
            self._late = done
            raise UnavailableError(f"the version takes over {timeout_s:g} s", "ask again") from None

    def close(self) -> None:
        """Ask no more."""
        self._asked.put(None)

    def _work(self) -> None:
        while (one := self._asked.get()) is not None:
            asked, done = one
            try:
                done.set_result(self._version.answer(asked))
            # Whatever it is must reach who waits.
            except Exception as error:
                done.set_exception(error)

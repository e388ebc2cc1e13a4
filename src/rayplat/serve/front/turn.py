"""Turns: the requests that arrive together are answered together, on the event loop or beside it.

Knows which requests share a lookup and who gets which answer; it does not know HTTP, nor what a prediction is
made of.

Nothing is delayed to fill a batch. What arrives in one turn of the loop is one batch. Where a batch takes
long, batches run on a thread of their own, one at a time, and what arrives meanwhile is the next: so a small
model pays for no hand-over between threads, and a slow one does not keep the loop from reading.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rayplat.core.errors import UnavailableError, UserError
from rayplat.serve.charge import Charge, free, read
from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.prediction_log import Log
from rayplat.serve.predictor import Answer, Asked
from rayplat.serve.request import RequestForm

MOST_REQUESTS = 64
"""How many requests are answered at once."""

INLINE_S = 0.0005
"""Batches that take longer than this, on a moving average, run beside the loop."""

AnswerMany = Callable[[Sequence[Asked]], Sequence[Answer]]
Told = Callable[[Answer | Exception], None]
_KEPT_SHARE = 0.8  # of the moving average, at each batch


@dataclass(frozen=True, slots=True)
class Waiting:
    """A body that was let in, and who is told its answer once its record is durable.

    Attributes:
        begin: when it came in, on the clock of `time.perf_counter`, s.
        caller, trace_id, key: see `Asked`.
        charge: told the number of instances before the work, from any thread; see `charge.read`.
    """

    body: bytes
    begin: float
    told: Told
    caller: str | None = None
    trace_id: str | None = None
    key: str | None = None
    charge: Charge = free
    asked_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Turn:
    """The batches of one event loop; used on it only.

    Args:
        form: reads the bodies.
        answer: answers questions of one time, in order.
        log: where predictions are made durable before they are answered.
        waited: hears how long a request has waited before its work began, s.
    """

    def __init__(
        self, form: RequestForm, answer: AnswerMany, log: Log, waited: Callable[[float], None]
    ) -> None:
        self._form = form
        self._answer = answer
        self._log = log
        self._waited = waited
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(1, "predict")
        self._waiting: list[Waiting] = []
        self._called = False
        self._running = False
        self._average_s = 0.0

    def add(self, one: Waiting, *, alone: bool) -> None:
        """Answer a question in this turn.

        Args:
            alone: no other question can come in this turn.
        """
        self._waiting.append(one)
        if self._running or self._called:
            return
        if alone and self._average_s < INLINE_S:
            self._go()
        else:
            self._called = True
            # What was received in this turn is read before what was called soon.
            self._loop.call_soon(self._go)

    def close(self) -> None:
        """Stop the thread after what it has begun."""
        self._pool.shutdown()

    def _go(self) -> None:
        self._called = False
        if self._running or not self._waiting:
            return
        batch, self._waiting = self._waiting[:MOST_REQUESTS], self._waiting[MOST_REQUESTS:]
        self._waited(time.perf_counter() - batch[0].begin)
        if self._average_s < INLINE_S:
            self._done(batch, *self._timed(batch))
            return
        self._running = True
        future = self._loop.run_in_executor(self._pool, self._timed, batch)
        future.add_done_callback(lambda done: self._done(batch, *done.result()))

    def _timed(self, batch: Sequence[Waiting]) -> "tuple[list[Answer | Exception], float]":
        begin = time.perf_counter()
        # Those that name no time are all of this moment, so that they share a lookup.
        now = datetime.now(UTC)
        groups: dict[datetime, list[tuple[int, Asked]]] = {}
        answers: list[Answer | Exception] = [UnavailableError("not answered", "ask again")] * len(batch)
        for place, one in enumerate(batch):
            try:
                question = read(self._form, one.body, now, one.charge)
            # Whatever a body does to its reader, the others of the batch are answered.
            except Exception as error:
                answers[place] = error
                continue
            asked = Asked(question, one.asked_at, one.begin, one.caller, one.trace_id, one.key)
            groups.setdefault(question.at, []).append((place, asked))
        for group in groups.values():
            for (place, _), answer in zip(group, self._together([a for _, a in group]), strict=True):
                answers[place] = answer
        return answers, time.perf_counter() - begin

    def _together(self, asked: Sequence[Asked]) -> "Sequence[Answer | Exception]":
        try:
            return self._answer(asked)
        except UserError as error:
            if len(asked) == 1:
                return [error]
            # One of them is at fault, and the others shall not hear of it.
            return [self._together([one])[0] for one in asked]
        # Whatever it is must reach those who wait.
        except Exception as error:
            return [error] * len(asked)

    def _done(self, batch: Sequence[Waiting], answers: "Sequence[Answer | Exception]", took_s: float) -> None:
        self._running = False
        self._average_s = _KEPT_SHARE * self._average_s + (1 - _KEPT_SHARE) * took_s
        settled = list(zip(batch, answers, strict=True))
        records = [r for a in answers if isinstance(a, Answer) for r in a.records]
        if records:
            self._logged(settled, records)
        else:
            _tell(settled, None)
        if self._waiting and not self._called:
            self._called = True
            self._loop.call_soon(self._go)

    def _logged(
        self, settled: "list[tuple[Waiting, Answer | Exception]]", records: list[PredictionRecord]
    ) -> None:
        try:
            durable = self._log.submit(records)
        # Without a durable record there is no answer, whatever the log says.
        except Exception as error:
            _tell(settled, error)
            return
        if durable.done():
            _tell(settled, durable.exception())
        else:
            durable.add_done_callback(lambda done: self._from_log(settled, done))

    def _from_log(self, settled: "list[tuple[Waiting, Answer | Exception]]", done: "Future[None]") -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_tell, settled, done.exception())


def _tell(settled: "list[tuple[Waiting, Answer | Exception]]", error: BaseException | None) -> None:
    """Tell everybody his answer, or that it could not be made durable."""
    for one, answer in settled:
        lost = error is not None and isinstance(answer, Answer)
        one.told(UnavailableError(f"the prediction is not logged: {error}", "ask again") if lost else answer)

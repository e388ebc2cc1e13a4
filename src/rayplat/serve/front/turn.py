"""Turns: the requests that arrive together are answered together, on the event loop or beside it.

Knows which requests share a lookup and who gets which answer; it does not know HTTP, nor what a prediction is
made of.

Nothing is delayed to fill a batch. What arrives in one turn of the loop is one batch. Where a batch takes
long, batches run on a thread of their own, one after the other, and what arrives meanwhile is the next: so a
small model pays for no hand-over between threads, and a slow one does not keep the loop from reading. The
thread takes the next batch itself; while it works, the loop records and tells the answers of the last one.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from rayplat.core.errors import UnavailableError, UserError
from rayplat.serve.charge import Charge, free, read
from rayplat.serve.front.pace import Pace
from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.predicted import joined
from rayplat.serve.prediction_log import Log
from rayplat.serve.predictor import Answer, Asked, NotLoggedError
from rayplat.serve.request import Question
from rayplat.serve.stages import Stages

MOST_REQUESTS = 64
"""How many requests are answered at once."""

LONG_BODY = 64 * 1024
"""Longer bodies, bytes, are read beside the loop."""

AnswerMany = Callable[[Sequence[Asked]], Sequence[Answer]]
Told = Callable[[Answer | Exception], None]


class Form(Protocol):
    """Reads bodies."""

    def parse(self, body: bytes, now: datetime) -> Question:
        """See `RequestForm.parse`."""


@dataclass(slots=True)
class Waiting:
    """A body that was let in, and who is told its answer once its record is durable.

    Attributes:
        begin: when it came in, on the clock of `time.perf_counter`, s.
        caller, trace_id, key: see `Asked`.
        charge: told the number of instances before the work, from any thread; see `charge.read`.
        form: reads the body; None: that of the turn.
        question: what the body asks, where that is known already.
    """

    body: bytes
    begin: float
    told: Told
    caller: str | None = None
    trace_id: str | None = None
    key: str | None = None
    charge: Charge = free
    form: Form | None = None
    question: Question | None = None
    asked_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Turn:
    """The batches of one event loop; used on it only.

    Args:
        form: reads the bodies.
        answer: answers questions of one time, in order.
        log: where predictions are made durable before they are answered.
        waited: hears how long a request has waited before its work began, s.
        stages: hears where the time of batches goes.
        most: how many requests are answered at once.
    """

    def __init__(
        self,
        form: Form,
        answer: AnswerMany,
        log: Log,
        waited: Callable[[float], None],
        *,
        stages: Stages | None = None,
        most: int = MOST_REQUESTS,
    ) -> None:
        self._form = form
        self._answer = answer
        self._log = log
        self._waited = waited
        self._stages = stages
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(1, "predict")
        self._waiting: list[Waiting] = []
        self._called = False
        self._running = False
        self._pace = Pace()
        self._now = datetime.now(UTC)

    def add(self, one: Waiting, *, alone: bool) -> None:
        """Answer a question in this turn.

        Args:
            alone: no other question can come in this turn.
        """
        if not self._waiting:
            # Those that name no time are all of the moment at which the first of them came, so that they
            # share a lookup.
            self._now = datetime.now(UTC)
        long = len(one.body) > LONG_BODY
        if not long:
            try:
                one.question = read(one.form or self._form, one.body, self._now, one.charge)
            # Whatever a body does to its reader is the affair of who sent it.
            except Exception as error:
                one.told(error)
                return
        self._waiting.append(one)
        if self._running or self._called:
            return
        if long:
            self._begin()
        elif alone and not self._pace.slow:
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
        if self._pace.slow or any(one.question is None for one in self._waiting[: self._most]):
            self._begin()
            return
        batch = self._taken()
        answers, took_s = self._timed(batch)
        self._pace.took(took_s, len(batch))
        self._done(batch, answers)

    def _taken(self) -> list[Waiting]:
        """The next batch. Its requests are taken off by whoever runs; new ones are only put behind them."""
        batch = self._waiting[: self._most]
        del self._waiting[: len(batch)]
        self._now = datetime.now(UTC)
        if batch:
            waited_s = time.perf_counter() - batch[0].begin
            self._waited(waited_s)
            if self._stages is not None:
                self._stages.began(waited_s, len(batch))
        return batch

    def _begin(self) -> None:
        self._running = True
        self._pool.submit(self._beside, self._taken())

    def _beside(self, batch: list[Waiting]) -> None:
        """Answer batches, on the thread, as long as there are any and they are slow."""
        while batch:
            answers, took_s = self._timed(batch)
            self._pace.took(took_s, len(batch))
            following = self._taken() if self._pace.slow else []
            if not following:
                self._running = False
            # Called also after the last one, so that what came in between is seen.
            self._loop.call_soon_threadsafe(self._done, batch, answers)
            batch = following

    def _timed(self, batch: Sequence[Waiting]) -> "tuple[list[Answer | Exception], float]":
        begin = time.perf_counter()
        if len(batch) == 1 and (question := batch[0].question) is not None:
            one = batch[0]
            alone = Asked(question, one.asked_at, one.begin, one.caller, one.trace_id, one.key)
            return list(self._together([alone])), time.perf_counter() - begin
        groups: dict[datetime, list[tuple[int, Asked]]] = {}
        answers: list[Answer | Exception] = [UnavailableError("not answered", "ask again")] * len(batch)
        for place, one in enumerate(batch):
            question = one.question
            if question is None:
                try:
                    question = read(one.form or self._form, one.body, datetime.now(UTC), one.charge)
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

    def _done(self, batch: Sequence[Waiting], answers: "Sequence[Answer | Exception]") -> None:
        settled = list(zip(batch, answers, strict=True))
        if len(answers) == 1:
            records = answers[0].records if isinstance(answers[0], Answer) else ()
        else:
            records = joined([a.records for a in answers if isinstance(a, Answer)])
        if records:
            self._logged(settled, records)
        else:
            _tell(settled, None)
        if self._waiting and not self._called and not self._running:
            self._called = True
            self._loop.call_soon(self._go)

    def _logged(
        self, settled: "list[tuple[Waiting, Answer | Exception]]", records: Sequence[PredictionRecord]
    ) -> None:
        begin = time.perf_counter()
        try:
            durable = self._log.submit(records)
        # Without a durable record there is no answer, whatever the log says.
        except Exception as error:
            _tell(settled, error)
            return
        if durable.done():
            self._from_log(settled, durable.exception(), begin)
        else:
            durable.add_done_callback(lambda done: self._on_the_loop(settled, done, begin))

    def _on_the_loop(
        self, settled: "list[tuple[Waiting, Answer | Exception]]", done: "Future[None]", begin: float
    ) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._from_log, settled, done.exception(), begin)

    def _from_log(
        self,
        settled: "list[tuple[Waiting, Answer | Exception]]",
        error: BaseException | None,
        begin: float,
    ) -> None:
        if self._stages is not None:
            self._stages.logged(time.perf_counter() - begin)
        _tell(settled, error)


def _tell(settled: "list[tuple[Waiting, Answer | Exception]]", error: BaseException | None) -> None:
    """Tell everybody his answer, or that it could not be made durable."""
    for one, answer in settled:
        one.told(NotLoggedError(str(error)) if error is not None and isinstance(answer, Answer) else answer)

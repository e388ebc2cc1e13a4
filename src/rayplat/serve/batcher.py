"""Requests that wait together are answered together.

Knows how bodies become questions, which of them share one lookup, and who gets which answer; it does not
know HTTP, nor what a prediction is made of.

A lookup of features costs about the same for one instance as for fifty. So the one thread that predicts
takes all requests that wait when it is free: nothing is delayed to fill a batch, and under load the cost
is shared. Questions of the same time go together; those that name no time are all of the moment at which
the batch begins, which is the now that they asked for.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from datetime import UTC, datetime

from rayplat.core.errors import UnavailableError, UserError
from rayplat.serve.charge import Charge, free, read
from rayplat.serve.predictor import Answer, Asked
from rayplat.serve.request import RequestForm

MOST_REQUESTS = 64
"""How many requests are taken at once."""

AnswerMany = Callable[[Sequence[Asked]], Sequence[Answer]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    body: bytes
    asked_at: datetime
    begin: float
    charge: Charge
    done: "Future[Answer]"


def _nobody(_seconds: float) -> None:
    return None


class Batcher:
    """One thread that answers.

    Args:
        form: reads the bodies.
        answer: answers questions of one time, in order; called on this batcher's thread only.
        waited: told how long (s) a request has waited when it is taken; called on that thread too.
    """

    def __init__(
        self, form: RequestForm, answer: AnswerMany, waited: Callable[[float], None] = _nobody
    ) -> None:
        self._waited = waited
        self._form = form
        self._answer = answer
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="predict", daemon=True)
        self._thread.start()

    def submit(self, body: bytes, charge: Charge = free) -> "Future[Answer]":
        """Hand a body over; the future has its answer, or RequestError, or what else was raised.

        Args:
            charge: told the number of instances before the work, on this batcher's thread.

        Raises:
            UnavailableError: the batcher is closed.
        """
        waiting = _Waiting(body, datetime.now(UTC), time.perf_counter(), charge, Future())
        with self._lock:
            if self._closed:
                raise UnavailableError("the replica is stopping", "ask again")
            self._queue.put(waiting)
        return waiting.done

    def close(self) -> None:
        """Answer what waits, then stop. May be called twice."""
        with self._lock:
            if not self._closed:
                self._queue.put(None)
            self._closed = True
        self._thread.join()

    def _work(self) -> None:
        last = False
        while not last:
            taken = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while taken[-1] is not None and len(taken) < MOST_REQUESTS:
                    taken.append(self._queue.get_nowait())
            last = taken[-1] is None
            for group in self._grouped([one for one in taken if one is not None]).values():
                self._settle(group)

    def _grouped(self, waiting: Sequence[_Waiting]) -> "dict[datetime, list[tuple[Asked, Future[Answer]]]]":
        """The questions by their time; who sent a body that cannot be read is told."""
        now, begin = datetime.now(UTC), time.perf_counter()
        groups: dict[datetime, list[tuple[Asked, Future[Answer]]]] = {}
        for one in waiting:
            self._waited(begin - one.begin)
            try:
                question = read(self._form, one.body, now, one.charge)
            # Whatever a body does to its reader, the others are answered and the thread goes on.
            except Exception as error:
                _fail(one.done, error)
            else:
                asked = Asked(question, one.asked_at, one.begin)
                groups.setdefault(question.at, []).append((asked, one.done))
        return groups

    def _settle(self, group: "Sequence[tuple[Asked, Future[Answer]]]") -> None:
        try:
            answers = self._answer([asked for asked, _ in group])
        except UserError as error:
            if len(group) == 1:
                _fail(group[0][1], error)
                return
            for one in group:  # one of them is at fault, and the others shall not hear of it
                self._settle([one])
        # Whatever it is must reach those who wait: a dead thread would hang every request.
        except Exception as error:
            for _, done in group:
                _fail(done, error)
        else:
            for (_, done), answer in zip(group, answers, strict=True):
                with contextlib.suppress(InvalidStateError):  # who asked has gone away
                    done.set_result(answer)


def _fail(done: "Future[Answer]", error: Exception) -> None:
    with contextlib.suppress(InvalidStateError):
        done.set_exception(error)

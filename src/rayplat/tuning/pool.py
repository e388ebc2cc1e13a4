"""Who runs trials: this process, or workers on Ray that are made once and used again.

Knows how trials are handed out and heard; it does not know which are worth running.
"""

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rayplat.tuning.trial import Ended, Report, Start, Tried, carry_out

_IDLE_S = 5.0
LOST = "lost"
"""The state of a trial whose worker died."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A trial waits to hear whether it goes on."""

    number: int
    report: Report


Heard = Ended | Reported


class Pool(Protocol):
    """Runs trials. `slots` of them may be with it at a time."""

    slots: int

    def start(self, start: Start) -> None:
        """Begin a trial."""
        ...

    def answer(self, number: int, *, goes_on: bool) -> None:
        """Let a trial that reported go on or end."""
        ...

    def heard(self, within_s: float) -> list[Heard]:
        """What trials have told; waits so long for the first."""
        ...

    def close(self) -> None:
        """End everything that runs."""
        ...


class Stepwise:
    """Runs one trial at a time, from report to report, in a thread of its own.

    Args:
        steps: whether a report waits for an answer; else reports come with the end.
    """

    def __init__(self, tried: Tried, *, steps: bool) -> None:
        self._tried, self._steps = tried, steps
        self._told: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def begin(self, start: Start) -> Heard:
        """Run until the first report, or to the end where reports do not wait."""
        if not self._steps:
            reports: list[Report] = []

            def note(report: Report) -> bool:
                reports.append(report)
                return True

            ended = carry_out(self._tried, start, note)
            return replace(ended, reports=(*reports, *ended.reports))

        def ask(report: Report) -> bool:
            self._told.put(Reported(start.number, report))
            return self._answers.get()

        def run() -> None:
            self._told.put(carry_out(self._tried, start, ask))

        threading.Thread(target=run, daemon=True, name=f"trial-{start.number}").start()
        return self._told.get()

    def go(self, goes_on: bool) -> Heard:
        """Run until the next report, or to the end."""
        self._answers.put(goes_on)
        return self._told.get()


class LocalPool:
    """One trial at a time in this process: for small functions, and for tests."""

    slots = 1

    def __init__(self, tried: Tried, *, steps: bool = False) -> None:
        self._worker = Stepwise(tried, steps=steps)
        self._heard: list[Heard] = []

    def start(self, start: Start) -> None:
        """Run it now, until it tells something."""
        self._heard.append(self._worker.begin(start))

    def answer(self, number: int, *, goes_on: bool) -> None:
        """Run on now, until it tells something."""
        self._heard.append(self._worker.go(goes_on))

    def heard(self, within_s: float) -> list[Heard]:
        """All that is known."""
        told, self._heard = self._heard, []
        return told

    def close(self) -> None:
        """Nothing runs between two calls."""


class Lender(Protocol):
    """Lends what idle workers held to the trials that run."""

    def begin(self, trial: int) -> None:
        """A trial is to run: the others make room for it."""
        ...

    def leave(self, trial: int) -> None:
        """It has ended, or its process was lost."""
        ...


class RayPool:
    """Workers on Ray, each an actor that is used for one trial after another.

    The function travels once; a value that it holds by `ray.put` is read by all workers of a node from
    the same memory. A worker that dies is made anew and its trial is told as lost.

    Args:
        workers: how many trials run at a time.
        cpus, gpus: what each worker holds.
        ahead: how many trials wait in line at each worker; more than 1 only where reports do not wait.
        lender: is told who runs. A worker that has had nothing to do for some seconds is ended, so that
            others can use what it held, and made anew at its next trial.
    """

    def __init__(
        self,
        tried: Tried,
        *,
        workers: int = 2,
        cpus: float = 1.0,
        gpus: float = 0.0,
        steps: bool = False,
        ahead: int = 1,
        lender: Lender | None = None,
    ) -> None:
        import ray

        self._ray: Any = ray
        self.slots = workers * (1 if steps else ahead)
        self._function = ray.put(tried)
        self._kind: Any = ray.remote(num_cpus=cpus, num_gpus=gpus)(_Worker)
        self._steps = steps
        self._lender = lender
        self._workers: list[Any] = [None if lender else self._made() for _ in range(workers)]
        self._idle_since = [0.0] * workers
        self._free = deque(at for _ in range(self.slots // workers) for at in range(workers))
        self._at: dict[int, tuple[int, Any]] = {}
        self._waiting: dict[Any, int] = {}

    def start(self, start: Start) -> None:
        """Hand it to the worker with the shortest line."""
        at = self._free_worker()
        if self._lender is not None:
            self._lender.begin(start.number)
        worker = self._workers[at] = self._workers[at] or self._made()
        self._at[start.number] = at, worker
        self._waiting[worker.begin.remote(start)] = start.number

    def _made(self) -> Any:
        return self._kind.remote(self._function, self._steps)

    def _free_worker(self) -> int:
        """One that is there before one that is to be made."""
        found = next((at for at in self._free if self._workers[at] is not None), self._free[0])
        self._free.remove(found)
        return found

    def _end_idle(self) -> None:
        if self._lender is None:
            return
        for at in self._free:
            if self._workers[at] is not None and time.monotonic() - self._idle_since[at] > _IDLE_S:
                self._ray.kill(self._workers[at])
                self._workers[at] = None

    def answer(self, number: int, *, goes_on: bool) -> None:
        """Tell its worker."""
        self._waiting[self._at[number][1].go.remote(goes_on)] = number

    def heard(self, within_s: float) -> list[Heard]:
        """All that is ready after the first."""
        self._end_idle()
        if not self._waiting:
            return []
        waiting = list(self._waiting)
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=within_s, fetch_local=False)
        if ready:
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        return [self._take(ref) for ref in ready]

    def _take(self, ref: Any) -> Heard:
        number = self._waiting.pop(ref)
        try:
            told: Heard = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            told = Ended(number, LOST, error=f"its worker was lost: {type(error).__name__}")
            at, worker = self._at[number]
            # Others in its line are told as lost, too, and must not replace its successor.
            if isinstance(error, self._ray.exceptions.ActorDiedError) and worker is self._workers[at]:
                self._workers[at] = None if self._lender else self._made()
        if isinstance(told, Ended):
            at, _ = self._at.pop(number)
            self._free.append(at)
            self._idle_since[at] = time.monotonic()
            if self._lender is not None:
                self._lender.leave(number)
        return told

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            if worker is not None:
                self._ray.kill(worker)


class _Worker:
    def __init__(self, tried: Tried, steps: bool) -> None:
        self._inner = Stepwise(tried, steps=steps)

    def begin(self, start: Start) -> Heard:
        """Begin a trial."""
        return self._inner.begin(start)

    def go(self, goes_on: bool) -> Heard:
        """Answer a report."""
        return self._inner.go(goes_on)

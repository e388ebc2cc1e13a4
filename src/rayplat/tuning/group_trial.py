"""A trial of a network as an elastic group: workers join it while others have nothing to do, and leave it.

Knows how a trial becomes the run of such a group, how its epochs are told and how it is stopped; it does not
know how a group keeps its state through that (`train.elastic`), or how many workers it may have (`shares`).
"""

import contextlib
import os
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.project.model import Model
from rayplat.core.telemetry import get_logger
from rayplat.train.elastic.controller import Controller, FailedError, Outcome
from rayplat.train.elastic.door import Door
from rayplat.train.elastic.member import Member, Place
from rayplat.train.elastic.slots import Slots, SlotSpec
from rayplat.train.goodput.bookkeeper import Bookkeeper
from rayplat.train.metrics import all_metrics
from rayplat.train.policy import Cause
from rayplat.train.rows import Rows
from rayplat.train.worker import TrainFunctionError, WorkerTask, checkpoints_of, has_result, read_result
from rayplat.tuning.going_on import take_up
from rayplat.tuning.group_places import OwnPlace, TrialPlaces
from rayplat.tuning.shares import Desk, Wanted
from rayplat.tuning.trial import Trial, TrialStoppedError

_THREADS = 1
_COLLECTIVE_TIMEOUT_S = 60.0
_ANSWER_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class SharedRows:
    """Rows that lie once in the memory of each node, for all trials and all of their workers."""

    reference: Any

    def read(self) -> Rows:
        """The same memory for everybody on a node; nobody may write to it."""
        import ray

        rows: Rows = ray.get(self.reference)
        return rows


@dataclass(frozen=True, slots=True)
class Elastic:
    """What makes trials groups: how many workers each may have, and what a worker holds. Travels as a value.

    Attributes:
        desk: the actor that knows which trials run.
        bundle: what each worker holds, the trial's own process too.
        least, most: workers of a trial.
    """

    desk: Any
    bundle: Mapping[str, float]
    least: int
    most: int

    @staticmethod
    def open(places: int, cpus: float, gpus: float, workers: tuple[int, int]) -> "Elastic":
        """Open a desk for a study of so many workers. Ray must be connected."""
        import ray

        desk: Any = ray.remote(num_cpus=0)(Desk)
        return Elastic(desk.remote(places), {"CPU": cpus} | ({"GPU": gpus} if gpus else {}), *workers)

    def begin(self, trial: int) -> None:
        """A trial is to run: the others make room for it."""
        self.desk.begin.remote(Wanted(trial, self.least, self.most))

    def leave(self, trial: int) -> None:
        """It has ended, or its process was lost."""
        self.desk.leave.remote(trial)

    def close(self) -> None:
        """Close the desk."""
        import ray

        ray.kill(self.desk)


class Telling:
    """Tells a trial's epochs one after the other, beside the training; the answer is there when it comes.

    A group is not held up by the question whether it goes on, so it may have trained a little further when
    it hears that it does not: a checkpoint keeps that.
    """

    def __init__(self, trial: Trial, reported: str) -> None:
        self._trial, self._reported = trial, reported
        self._epochs: queue.SimpleQueue[Mapping[str, float] | None] = queue.SimpleQueue()
        self._after: list[Mapping[str, float]] = []
        self.stopped: TrialStoppedError | None = None
        self._thread = threading.Thread(target=self._tell_all, daemon=True, name=f"telling-{trial.number}")
        self._thread.start()

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """An epoch has ended: its number from 0, how many there are, and its metrics."""
        if self._reported in metrics:
            self._epochs.put(dict(metrics))

    def end(self) -> None:
        """No more epochs come; waits until all were told."""
        self._epochs.put(None)
        self._thread.join()

    def end_anyway(self) -> None:
        """The trial was trained to its end before a stop reached it: what came after that is told, too."""
        for metrics in self._after:
            self._trial.report(metrics[self._reported], int(metrics["epoch"]) + 1, last=True)

    def _tell_all(self) -> None:
        while (metrics := self._epochs.get()) is not None:
            if self.stopped is not None:
                self._after.append(metrics)
                continue
            done = int(metrics["epoch"]) + 1
            try:
                self._trial.report(metrics[self._reported], done, last=done >= metrics.get("of", 0) > 0)
            except TrialStoppedError as stopped:
                self.stopped = stopped


class _Books(Bookkeeper):
    """A group's accounts, which hear all that is said in it: epochs, and who trains."""

    def __init__(self, telling: Telling, trains: Callable[[str], None]) -> None:
        super().__init__()
        self._telling, self._trains = telling, trains

    def heard(self, member: str, message: Mapping[str, Any]) -> None:
        """As for any run; and what a study wants to know."""
        super().heard(member, message)
        if message["say"] == "training":
            self._trains(member)
        elif message["say"] == "report":
            self._telling.epoch(message["metrics"])


def measure_group(  # noqa: PLR0917  # what a trial is made of
    elastic: Elastic, model: Model, project: str, reference: Any, rows: Rows, trial: Trial, reported: str
) -> Mapping[str, float]:
    """Train the trial in this process and with as many more workers as are free, and measure it.

    Args:
        reference: of Ray's, to the rows.
        reported: the metric that is told after each epoch.

    Raises:
        TrialStoppedError: it is not worth going on with now; its checkpoint is kept.
        UserError: the trial has no folder that all workers see, or the project's function failed.
        UnavailableError: workers were lost again and again without a step.
    """
    if not trial.uri:
        raise UserError("a trial on several workers has no folder", "give the study a place for states")
    telling = Telling(trial, reported)
    known = take_up(trial, checkpoints_of(trial.uri))
    if known is not None:  # a kill may have come before these were told
        _, of, history = known
        epochs = history.get(reported, [])
        for epoch, value in epochs[-1:] if trial.origin else epochs:  # the first ones were another trial's
            telling.epoch({"epoch": epoch, "of": of, reported: value})
    try:
        if not has_result(trial.uri):
            rows_of_all, params = SharedRows(reference), trial.params
            task = WorkerTask(project, model.name, rows_of_all, trial.uri, _THREADS, params=params)
            outcome = _train(elastic, model, task, trial.number, telling)
            get_logger("tuning").info("group_trial", trial=trial.number, worlds=list(outcome.worlds))
    finally:
        telling.end()
    if telling.stopped is not None and not has_result(trial.uri):
        raise telling.stopped
    telling.end_anyway()
    return all_metrics(rows.y_test, read_result(trial.uri).probabilities)


def _train(elastic: Elastic, model: Model, task: WorkerTask, trial: int, telling: Telling) -> Outcome:
    """Train on this process and lent places until the run is over or the trial is stopped."""
    import ray

    host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    secret = secrets.token_hex(16)
    door = Door(host, secret)

    def member(name: str) -> None:
        Member(task, Place(door.address, secret, name, host, _COLLECTIVE_TIMEOUT_S)).train()

    def lend() -> Slots:
        return Slots(SlotSpec(elastic.bundle, 1), task, door, host, secret, _COLLECTIVE_TIMEOUT_S)

    own = OwnPlace(member, lambda: os._exit(1))
    places = TrialPlaces(own, lend, _Allowed(elastic, trial), elastic.least)
    hung_after_s = model.training.on_failure.hung_after_s
    try:
        return Controller(
            places,
            door,
            elastic.least,
            elastic.most,
            lambda text, share: None,
            lambda: telling.stopped is not None,
            books=_Books(telling, places.trains),
            hung_after_s=hung_after_s,
        ).run()
    except FailedError as failed:
        failure = failed.decision.failure
        if failure.cause is Cause.CODE:
            raise TrainFunctionError(failure.text, str(failed.told.get("mend", ""))) from None
        raise UnavailableError(
            f"trial {trial} lost its workers ({failed.decision.reason}): {failure.text}",
            "look at `rayplat status` and Ray's log for memory and nodes",
        ) from None
    finally:
        places.close()
        door.close()
        own.wait()


class _Allowed:
    """How many workers a trial may have; what it was told last, while nobody answers."""

    def __init__(self, elastic: Elastic, trial: int) -> None:
        import ray

        self._ray: Any = ray
        self._desk, self._trial, self._last = elastic.desk, trial, elastic.least

    def __call__(self) -> int:
        """Ask."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._last = self._ray.get(self._desk.ask.remote(self._trial), timeout=_ANSWER_WITHIN_S)
        return int(self._last)

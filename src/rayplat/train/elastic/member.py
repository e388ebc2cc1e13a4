"""A member of the group: one process that trains in one generation after the other.

Knows how a worker's process goes through generations, and what it tells its controller; it does not know
who else there is, nor when a generation ends (`controller`).
"""

import contextlib
import functools
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from rayplat.core.errors import RayplatError
from rayplat.core.project.model import Model
from rayplat.train.beginning import fresh
from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.elastic.agreement import NOTHING, agree, progress
from rayplat.train.elastic.between import between_steps
from rayplat.train.elastic.facts import Generation
from rayplat.train.elastic.link import ControllerGoneError, Link
from rayplat.train.elastic.notice import Departure
from rayplat.train.elastic.process_group import OwnStore, process_group, warm_up
from rayplat.train.goodput.spending import Spent
from rayplat.train.goodput.stopwatch import Stopwatch
from rayplat.train.input.stream import Streams
from rayplat.train.layout import accelerator_for, is_sharded, will_shard
from rayplat.train.leaving import LeaveError
from rayplat.train.live_state import LiveState
from rayplat.train.policy import Cause
from rayplat.train.rows import Rows
from rayplat.train.run import TrainRun
from rayplat.train.system_metrics import SystemMetrics
from rayplat.train.worker import UserCode, WorkerTask, cause_of, checkpoints_of, declared, keep_result

_SAVE_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member finds its controller, and how it is known there. Travels to it as a value."""

    door: str
    secret: str
    id: str
    host: str
    collective_timeout_s: float


class Member:
    """One worker's process from its start to the run's end.

    Args:
        task: what is trained.
        place: its own.
    """

    def __init__(self, task: WorkerTask, place: Place) -> None:
        self._task = task
        self._place = place
        self._link = Link(place.door, place.secret, place.id)
        self._live: LiveState | None = None
        self._watch = Stopwatch()
        self._micro_batch: int | None = None
        self._checkpoints: CheckpointFolder = checkpoints_of(task.run_uri)
        self._departure = Departure()
        self._streams: Streams | None = None

    def train(self) -> None:
        """Train in every generation that this member is in, until the run is over."""
        try:
            model, rows = declared(self._task), self._task.rows.read()
            own = OwnStore(self._place.host)
            warm_up(own, self._place.id, self._task.threads)
            self._link.say("ready", store=own.address)
            self._watch.enter(Spent.IDLE)
            system = SystemMetrics(lambda values: self._link.say("system", metrics=dict(values)))
            try:
                while self._generation(model, rows, own):
                    self._say("waiting", step=progress(self._live)[0])
            finally:
                system.close()
        except ControllerGoneError:
            return
        except RayplatError as error:
            self._fail(error, error.what, error.mend)
        # The last door of the process: whatever it is, the controller tells the user.
        except Exception as error:
            self._fail(error, "".join(traceback.format_exception(error)), "")
        finally:
            self._link.close()

    def _generation(self, model: Model, rows: Rows, own: OwnStore) -> bool:
        """Train in the next generation; whether there may be another one for this member."""
        generation = self._link.next_generation()
        rank = generation.members.index(self._place.id)
        self._watch.enter(Spent.RESTART)
        try:
            self._train_in(generation, rank, model, rows, own)
        except LeaveError as left:
            traceback.clear_frames(left.__traceback__)
        except Exception as error:
            if cause_of(error) is Cause.CODE:
                raise
            # The frames of the trace hold the wrapped network and its buffers.
            traceback.clear_frames(error.__traceback__)
        else:
            self._say("done", rank=rank, step=0 if self._live is None else self._live.step)
            return False
        self._watch.enter(Spent.RESTART)
        if self._live is not None:
            self._micro_batch = self._live.micro_batch
            self._live.unprepare()
            self._live.undo_step()
            if is_sharded(self._live.network):
                self._live = None  # a part of what a lost group had; a checkpoint has the whole
        if self._link.stop.is_set():
            self._stop(rank)
            return False
        return True

    def _train_in(self, generation: Generation, rank: int, model: Model, rows: Rows, own: OwnStore) -> None:
        timeout = self._place.collective_timeout_s
        make = functools.partial(accelerator_for, model.training)
        with process_group(generation, rank, own, self._task.threads, timeout, make=make) as accelerator:
            # Of a sharded network nobody reads a checkpoint whole: each takes its parts when it is cut.
            reads = rank == 0 and not will_shard(model.training, len(generation.members))
            live, mine = self._begin(model, rows, reads=reads)
            live.micro_batch = self._micro_batch
            agree(live, mine, rank, len(generation.members))
            self._live = live
            live.network.to(accelerator.device)
            self._say("training", step=live.step, generation=generation.number)
            run = TrainRun(
                rows=rows,
                build=model.network,
                seed=model.seed,
                checkpoints=self._checkpoints,
                accelerator=accelerator,
                report=self._report if rank == 0 else _nothing,
                live=live,
                boundary=self._between_steps,
                training=model.training,
                note=self._note,
                watch=self._watch,
                kept_uri=self._task.kept_uri,
                furthest=generation.furthest,
                params=self._task.params,
                streams=self._streams_of(model, rows),
            )
            try:
                with UserCode(model):
                    model.train(run)
                    probabilities = run.test_probabilities()
                    weights = run.weights()
                    run.finish_saves()
            finally:
                run.leave()
            self._checkpoints.wait()
            if rank == 0:
                keep_result(self._task.run_uri, run, probabilities, weights)
            accelerator.wait_for_everyone()

    def _streams_of(self, model: Model, rows: Rows) -> Streams | None:
        """Where prepared rows come from in every generation of this member."""
        if self._streams is None and model.training.prepare is not None:
            self._streams = Streams(
                self._task.project, self._task.model, rows, model.training.prepare, model.seed
            )
        return self._streams

    def _begin(self, model: Model, rows: Rows, *, reads: bool) -> tuple[LiveState, tuple[int, int]]:
        """The state to begin a generation with, and how far it is."""
        if self._live is not None and not self._live.changing:
            return self._live, progress(self._live)
        live = fresh(model.network, rows, model.seed)
        # One reads the checkpoint and gives it to the others: all begin with the same one.
        found = self._checkpoints.latest() if reads else None
        if found is None:
            return live, NOTHING
        live.take(found)
        return live, progress(live)

    def _between_steps(self, run: TrainRun) -> None:
        link = self._link
        link.say_step(run.live.step, self._spent)
        between_steps(run, link, self._departure)

    def _stop(self, rank: int) -> None:
        if rank == 0 and self._live is not None and not self._live.changing:
            self._checkpoints.publish(self._live.as_checkpoint())
        self._link.say("stopped", rank=rank)

    def _say(self, what: str, **more: object) -> None:
        """Say something, and what the time was spent on so far."""
        self._link.say(what, spent=self._spent(), **more)

    def _spent(self) -> dict[str, int]:
        return self._watch.spent().as_json()

    def _note(self, text: str) -> None:
        self._link.say("note", text=f"worker {self._place.id}: {text}")

    def _report(self, metrics: Mapping[str, float]) -> None:
        self._link.say("report", metrics=dict(metrics))

    def _fail(self, error: Exception, what: str, mend: str) -> None:
        cause = cause_of(error)
        step = 0 if self._live is None else self._live.step
        with contextlib.suppress(RayplatError):  # what is on its way is what the run is taken up from
            self._checkpoints.wait(_SAVE_WITHIN_S)
        self._say("failed", cause=cause.value, told=what, mend=mend, step=step)
        with contextlib.suppress(OSError):
            self._link.close()


def _nothing(metrics: Mapping[str, float]) -> None:
    """Rank 0 tells for all."""

"""The controller of a group: hears what happens, decides by the rules, and carries it out.

Knows the order of things; the rules are in `membership` and `policy`, the processes in `slots`, the
connections in `door`. One run, in the driver's process; when the driver is killed, its members end too, and
the next call goes on from the newest checkpoint.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rayplat.core.telemetry import get_logger
from rayplat.train.elastic.door import Door, Gone, Said
from rayplat.train.elastic.facts import Generation, GroupFacts, MemberFact, Phase
from rayplat.train.elastic.membership import SETTLE_S, End, Form, Regroup, Wait, decide_membership
from rayplat.train.elastic.slots import STANDBY_SLOT, Processes
from rayplat.train.elastic.standing import ITS_OWN
from rayplat.train.elastic.starts import START_S, Renew, decide_start
from rayplat.train.goodput.bookkeeper import Bookkeeper
from rayplat.train.goodput.report import GoodputReport
from rayplat.train.policy import Cause, Failure, GiveUp, decide

Progress = Callable[[str, float | None], None]

_LOSSES_WITHOUT_PROGRESS = 3
_LOOK_S = 0.25
_PING_S = 2.0
_SILENT_S = 20.0


class FailedError(Exception):
    """The run has failed: how, and what a member said of it.

    Attributes:
        told: the message of the member whose code failed; empty where members were lost.
    """

    def __init__(self, decision: GiveUp, told: Mapping[str, Any] | None = None) -> None:
        super().__init__(decision.reason)
        self.decision = decision
        self.told = told or {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        losses: how many members were lost on the way.
        generations: how many generations there were.
        stopped: it was asked to stop, and did so with a checkpoint.
        worlds: the number of members of each generation, in order.
        goodput: what the workers' time was spent on, over all calls of the run.
    """

    losses: int
    generations: int
    stopped: bool
    worlds: tuple[int, ...]
    goodput: GoodputReport


class Controller:
    """Runs one group to its end.

    Args:
        slots: starts and ends members.
        door: hears and tells them.
        least, most: how many may train together.
        progress: is told of losses and of each epoch.
        stop_asked: whether the run is to stop, with a checkpoint.
        books: keeps the accounts.
        hung_after_s: a group that makes no step for so long has a hung member.
        start_s: a process that has not come after so long is asked for again, in a new reservation.
    """

    def __init__(  # noqa: PLR0917  # its collaborators
        self,
        slots: Processes,
        door: Door,
        least: int,
        most: int,
        progress: Progress,
        stop_asked: Callable[[], bool] = lambda: False,
        *,
        books: Bookkeeper | None = None,
        hung_after_s: float = 120.0,
        start_s: float = START_S,
    ) -> None:
        self._slots, self._door = slots, door
        self._least, self._most = least, most
        self._progress = progress
        self._stop_asked = stop_asked
        self._books = books or Bookkeeper()
        self._hung_after_s, self._start_s = hung_after_s, start_s
        self._renewed: dict[int, int] = {}
        self._members: dict[str, MemberFact] = {}
        self._heard: dict[str, float] = {}
        self._stands: dict[str, int] = {}
        self._generation = Generation(0, (), "")
        self._broken = False
        self._worlds: list[int] = []
        self._losses: list[Failure] = []
        self._step = 0
        self._step_at = 0.0
        self._stuck = self._counted = 0
        self._stuck_at = self._bad_at = -1
        self._bad_starts = 0
        self._regrouping = False
        self._deadlines: dict[str, float] = {}
        self._stopping = False
        self._over: Outcome | None = None
        self._log = get_logger("train.elastic")

    def run(self) -> Outcome:
        """Run to the end.

        Raises:
            FailedError: the project's code failed, or members were lost again and again without a step.
        """
        try:
            over = self._until_over()
        finally:
            self._books.close()
        return replace(over, goodput=self._books.report())

    def _until_over(self) -> Outcome:
        looked = pinged = -1.0
        while self._over is None:
            now = time.monotonic()
            if now - looked >= _LOOK_S:
                looked = now
                self._look(now)
            if now - pinged >= _PING_S:
                pinged = now
                self._ping(now)
            pause = self._carry_out(now)
            event = self._door.next(min(pause, _LOOK_S))
            while event is not None and self._over is None:
                self._hear(event, time.monotonic())
                event = self._door.next(0.0)
        return self._over

    def _look(self, now: float) -> None:
        """Start members where there is room, and notice those that ended without having come."""
        for member, slot in self._slots.fill():
            self._members[member] = MemberFact(member, slot, Phase.STARTING, since=now)
            self._books.began(member)
        self._books.look()
        for member in self._slots.ended():
            if self._members.get(member, None) is not None and member not in self._heard:
                self._lose(member, now, self._slots.why(member))
        self._renew_late(now)
        for member, deadline in self._slots.leaving().items():
            fact = self._members.get(member)
            if fact is not None and not fact.leaving:
                self._members[member] = replace(fact, leaving=True)
                self._progress(f"the node of worker {member} is to go", None)
                self._deadlines[member] = deadline
                self._save_where_all_leave()
        if self._stop_asked() and not self._stopping:
            self._stopping = True
            for member in self._generation.members:
                self._door.tell(member, {"say": "stop"})

    def _renew_late(self, now: float) -> None:
        """Places whose process does not come are reserved anew. Nobody was there, so that is no loss."""
        for member in self._slots.awaited():
            fact = self._members.get(member)
            if fact is None:
                continue
            renewed = self._renewed.get(fact.slot, 0)
            decision = decide_start(fact, renewed, now, self._start_s)
            if isinstance(decision, Renew):
                self._renewed[fact.slot] = renewed + 1
                self._progress(decision.reason, None)
                self._log.warning("start_overdue", member=member, slot=fact.slot, tries=renewed + 1)
                del self._members[member]
                self._slots.renew(member)
                self._books.left(member)

    def _save_where_all_leave(self) -> None:
        """Nobody would be left with the state: a checkpoint, before the deadline of the nodes."""
        training = [self._members[m] for m in self._generation.members if m in self._members]
        if training and all(fact.leaving for fact in training):
            known = [by for fact in training if (by := self._deadlines.get(fact.id, 0.0))]
            self._door.tell(self._generation.members[0], {"say": "save", "by": min(known, default=0.0)})

    def _ping(self, now: float) -> None:
        """Ask who is alive, and end those that have been silent for too long or make no step."""
        for member, heard in list(self._heard.items()):
            if now - heard > _SILENT_S:
                self._progress(f"worker {member} has been silent for {now - heard:.0f} s: it is ended", None)
                self._lose(member, now, "it did not answer")
            else:
                self._door.tell(member, {"say": "ping"})
        training = [m for m in self._members.values() if m.phase is Phase.TRAINING]
        if training and not self._broken and now - self._step_at > self._hung_after_s:
            behind = min(training, key=lambda m: (self._stands.get(m.id, ITS_OWN), m.step))
            self._progress(f"no step for {now - self._step_at:.0f} s: worker {behind.id} is ended", None)
            self._step_at = now
            self._lose(behind.id, now, "the group made no step")

    def _carry_out(self, now: float) -> float:
        """Decide, and do it. Returns how long nothing is to be done, s."""
        facts = GroupFacts(
            members=tuple(self._members.values()),
            least=self._least,
            most=self._most,
            generation=self._generation.members,
            broken=self._broken,
            now=now,
            begun=bool(self._worlds),
            settle_s=min(SETTLE_S, self._hung_after_s),
        )
        match decide_membership(facts):
            case Form(members):
                self._form(members, now)
            case Regroup(reason):
                self._regroup(reason)
            case End(members, reason):
                for member in members:
                    self._lose(member, now, reason)
            case Wait(seconds):
                return max(seconds, 0.0)
        return 0.0

    def _form(self, members: tuple[str, ...], now: float) -> None:
        number = self._generation.number + 1
        store = self._members[members[0]].store
        self._generation = Generation(number, members, store, self._books.furthest)
        self._books.formed(len(members))
        self._broken = self._regrouping = False
        self._worlds.append(len(members))
        self._step_at = now
        for member in members:
            fact = self._members[member]
            slot = self._slots.promote(member) if fact.slot == STANDBY_SLOT else fact.slot
            self._members[member] = replace(
                fact, phase=Phase.TRAINING, since=now, slot=STANDBY_SLOT if slot is None else slot
            )
        self._release([m for m in self._members.values() if m.leaving and m.id not in members])
        message = self._generation.as_message()
        for member in members:
            self._door.tell(member, message)
            if self._stopping:
                self._door.tell(member, {"say": "stop"})
        self._save_where_all_leave()
        self._log.info("generation", number=number, world=len(members), step=self._step)

    def _release(self, members: list[MemberFact]) -> None:
        """Members that leave are ended; their nodes are not used again."""
        for member in members:
            del self._members[member.id]
            self._heard.pop(member.id, None)
            self._slots.release(member.id)
            self._books.left(member.id)

    def _give_back(self, told: MemberFact, step: int) -> None:
        """The last checkpoint before all nodes go is durable: nobody pays for them while they stand."""
        training = [m for member in self._generation.members if (m := self._members.get(member)) is not None]
        if self._broken or told not in training or not all(member.leaving for member in training):
            return
        self._progress(f"all workers are about to leave, and step {step} is saved: they are given back", None)
        self._broken = True
        self._release(training)

    def _regroup(self, reason: str) -> None:
        if self._regrouping:
            return
        self._regrouping = True
        self._progress(reason, None)
        for member in self._generation.members:
            self._door.tell(member, {"say": "regroup"})

    def _hear(self, event: Said | Gone, now: float) -> None:
        if isinstance(event, Gone):
            self._lose(event.member, now, self._slots.why(event.member))
            return
        fact, message = self._members.get(event.member), event.message
        if fact is None:
            return
        self._heard[fact.id] = now
        self._books.heard(fact.id, message)
        match message["say"]:
            case "ready":
                fact = replace(fact, phase=Phase.READY, since=now, store=str(message["store"]))
                self._renewed.pop(fact.slot, None)
            case "training" | "step":
                fact = replace(fact, step=int(message["step"]), since=now)
                self._advance(fact.step, now)
            case "waiting":
                fact = replace(fact, phase=Phase.WAITING, since=now, step=int(message["step"]))
                self._broken = self._broken or fact.id in self._generation.members
            case "pong" | "note" | "report":
                self._note(fact, message)
            case "saved":
                self._give_back(fact, int(message["step"]))
                return
            case "done" | "stopped":
                fact = replace(fact, phase=Phase.DONE, since=now)
                self._finish(message)
            case "failed":
                self._fail(fact, message)
        self._members[fact.id] = fact

    def _note(self, fact: MemberFact, message: Mapping[str, Any]) -> None:
        """What changes nothing about a member: where it stands, what it has to tell."""
        match message["say"]:
            case "pong":
                self._stands[fact.id] = int(message.get("stands", ITS_OWN))
            case "note":
                self._progress(str(message["text"]), None)
            case "report":
                self._report(message["metrics"])

    def _advance(self, step: int, now: float) -> None:
        if step > self._step:
            self._step, self._step_at = step, now

    def _report(self, metrics: Mapping[str, float]) -> None:
        epoch, of = int(metrics.get("epoch", 0)), int(metrics.get("of", 0))
        shown = [f"{n} {metrics[n]:.4f}" for n in ("train_loss", "roc_auc", "log_loss") if n in metrics]
        text = f"epoch {epoch + 1}" + (f" of {of}" if of else "") + ": " + ", ".join(shown)
        self._progress(text, (epoch + 1) / of if of else None)
        self._log.info("epoch", **metrics)

    def _finish(self, message: Mapping[str, Any]) -> None:
        # Rank 0 has written the result, or the checkpoint, before it says so; others may be on the way still.
        if message["rank"] == 0:
            stopped = message["say"] == "stopped"
            worlds, report = tuple(self._worlds), self._books.report()
            self._over = Outcome(len(self._losses), self._generation.number, stopped, worlds, report)

    def _lose(self, member: str, now: float, why: str) -> None:
        fact = self._members.pop(member, None)
        self._heard.pop(member, None)
        self._slots.forget(member)
        if fact is None or fact.phase is Phase.DONE:
            self._books.left(member)
            return
        self._books.lost(member)
        if member in self._generation.members and fact.phase is Phase.TRAINING:
            self._broken = True
            rank = self._generation.members.index(member)
            self._progress(f"worker {rank} was lost; going on at step {self._step}", None)
        failure = Failure(max(fact.slot, 0), Cause.LOST, why or "its process ended")
        self._losses.append(failure)
        self._log.warning("member_lost", member=member, phase=fact.phase.value, step=self._step, why=why)
        self._count(failure, in_generation=member in self._generation.members)

    def _count(self, failure: Failure, *, in_generation: bool) -> None:
        """Give up where losses bring no step. A node takes many members at once: that is one loss."""
        if in_generation:
            if self._counted == self._generation.number:
                return
            self._counted = self._generation.number
            self._stuck = self._stuck + 1 if self._step <= self._stuck_at else 0
            self._stuck_at = self._step
            stuck = self._stuck
        else:
            self._bad_starts = self._bad_starts + 1 if self._step <= self._bad_at else 1
            self._bad_at = self._step
            stuck = self._bad_starts // self._most
        decision = decide([failure], stuck, _LOSSES_WITHOUT_PROGRESS)
        if isinstance(decision, GiveUp):
            raise FailedError(decision)

    def _fail(self, fact: MemberFact, message: Mapping[str, Any]) -> None:
        cause = Cause(message["cause"])
        if cause is not Cause.CODE:  # what it ran into is a peer's or a node's end, and it ends by that too
            return
        failure = Failure(max(fact.slot, 0), cause, str(message["told"]))
        raise FailedError(GiveUp(failure, "the same code on the same data would fail again"), message)

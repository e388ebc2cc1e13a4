"""Members as plain processes of this machine: what Ray's actors are to the controller, and easy to kill."""

import contextlib
import multiprocessing
import os
import secrets
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

from rayplat.train.elastic.controller import Controller, Outcome
from rayplat.train.elastic.door import Door
from rayplat.train.elastic.member import Member, Place
from rayplat.train.elastic.starts import START_S
from rayplat.train.goodput.bookkeeper import Bookkeeper
from rayplat.train.rows import Rows
from rayplat.train.worker import WorkerTask
from tests.train.synthetic import make_rows

HOST = "127.0.0.1"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["rayplat.train.elastic.member", "tests.train.synthetic"])


@dataclass(frozen=True)
class InMemory:
    """Rows as a task names them, without a lakehouse."""

    count: int

    def read(self) -> Rows:
        return make_rows(self.count)


def _be_member(task: WorkerTask, place: Place) -> None:
    Member(task, place).train()


@dataclass
class LocalProcesses:
    """Starts members as processes in the slots of `room`; the tests kill, stop and send them away.

    Of the first `never_come` that are asked for, no process comes.
    """

    task: WorkerTask
    door: Door
    secret: str
    room: set[int]
    standbys: int = 0
    never_come: int = 0
    absent: dict[str, int] = field(default_factory=dict)
    running: dict[str, tuple[int, BaseProcess]] = field(default_factory=dict)
    going: dict[str, float] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)

    def fill(self) -> list[tuple[str, int]]:
        with self.lock:
            used = [slot for slot, _ in self.running.values()] + list(self.absent.values())
            wanted = [slot for slot in sorted(self.room) if slot not in used]
            wanted += [-1] * (self.standbys - used.count(-1))
            return [(self._start(slot), slot) for slot in wanted]

    def _start(self, slot: int) -> str:
        member = f"{slot}-{secrets.token_hex(3)}"
        if self.never_come:
            self.never_come -= 1
            self.absent[member] = slot
            return member
        place = Place(self.door.address, self.secret, member, HOST, 600.0)
        process = _CONTEXT.Process(target=_be_member, args=(self.task, place), daemon=True)
        process.start()
        self.running[member] = slot, process
        return member

    def promote(self, member: str) -> int | None:
        with self.lock:
            slot, process = self.running[member]
            used = {s for s, _ in self.running.values()}
            free = [s for s in sorted(self.room) if s not in used]
            if slot == -1 and free:
                self.running[member] = free[0], process
            return self.running[member][0]

    def ended(self) -> list[str]:
        with self.lock:
            return [m for m, (_, process) in self.running.items() if not process.is_alive()]

    def why(self, member: str) -> str:
        return ""

    def awaited(self) -> list[str]:
        with self.lock:
            return list(self.absent)

    def renew(self, member: str) -> None:
        with self.lock:
            del self.absent[member]

    def leaving(self) -> dict[str, float]:
        with self.lock:
            return {m: by for m, by in self.going.items() if m in self.running}

    def forget(self, member: str) -> None:
        with self.lock:
            self.absent.pop(member, None)
            _, process = self.running.pop(member, (0, None))
            if process is not None:
                process.kill()

    def release(self, member: str) -> None:
        with self.lock:
            self.room.discard(self.running[member][0])
            self.forget(member)

    def signal(self, slot: int, number: signal.Signals) -> None:
        """Send a signal to the member in a slot, if there is one."""
        with self.lock, contextlib.suppress(ProcessLookupError):
            for its, process in self.running.values():
                if its == slot and process.pid:
                    os.kill(process.pid, number)

    def send_away(self, slot: int, by: float = 0.0) -> None:
        """The node of the member in a slot is to go, at a time since the epoch; 0: who knows when."""
        with self.lock:
            self.going |= {m: by for m, (its, _) in self.running.items() if its == slot}

    def close(self) -> None:
        for member in list(self.running):
            self.forget(member)


@dataclass
class Group:
    """A controller over local processes, in a thread, and what it told."""

    task: WorkerTask
    least: int
    most: int
    room: int
    standbys: int = 0
    hung_after_s: float = 120.0
    start_s: float = START_S
    never_come: int = 0
    told: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    error: BaseException | None = None
    stop: bool = False

    def __enter__(self) -> "Group":
        secret = secrets.token_hex(8)
        self.door = Door(HOST, secret)
        room = set(range(self.room))
        self.processes = LocalProcesses(self.task, self.door, secret, room, self.standbys, self.never_come)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(120)
        self.processes.close()
        self.door.close()

    def wait(self) -> Outcome:
        """The outcome; raises what the controller raised."""
        self.thread.join(120)
        if self.error is not None:
            raise self.error
        assert self.outcome is not None, f"the run did not end: {self.told}"
        return self.outcome

    def _run(self) -> None:
        def progress(text: str, share: float | None) -> None:
            self.told.append(text)

        try:
            self.outcome = Controller(
                self.processes,
                self.door,
                self.least,
                self.most,
                progress,
                lambda: self.stop,
                books=Bookkeeper(self.task.run_uri),
                hung_after_s=self.hung_after_s,
                start_s=self.start_s,
            ).run()
        except BaseException as error:
            self.error = error
        finally:
            self.processes.close()

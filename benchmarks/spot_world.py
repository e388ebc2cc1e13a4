"""A small cloud: nodes that are there for a while, tell before they go, and are billed by the second.

Knows windows of capacity, notices and bills; members are plain processes, one a node, and the elastic
controller decides everything else. `replay` plays the same windows for trainers that are only computed.
"""

import contextlib
import multiprocessing
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

NOTICE_S = 2.0
_LENGTH_S = 600.0
HOST = "127.0.0.1"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["rayplat.train.elastic.member", "rayplat.train.loop"])


@dataclass(frozen=True)
class Window:
    """A node that can be had in a slot, seconds since the trace began."""

    slot: int
    begin: float
    end: float


def trace(seed: int, slots: int, mean_s: float, gap_s: float, crunch_s: float) -> list[Window]:
    """Windows of each slot: 8 s and an exponential length, then a gap; at `crunch_s` all slots go."""
    random = np.random.default_rng(seed)
    windows = []
    for slot in range(slots):
        at = 0.0
        while at < _LENGTH_S:
            end = at + 8.0 + random.exponential(mean_s)
            if at < crunch_s <= end + gap_s:
                end = crunch_s
            windows.append(Window(slot, at, end))
            at = end + random.uniform(0.5, 1.5) * gap_s
    return windows


def warm_up() -> None:
    """Start the process that all others are forked from: nobody pays for its imports."""
    process = _CONTEXT.Process(target=int)
    process.start()
    process.join()


@dataclass
class Node:
    """A node that was taken: from when to when it is billed."""

    window: Window
    process: BaseProcess
    taken: float
    given_back: float | None = None


@dataclass
class SpotNodes:
    """Where the members of a group come from: the processes of `rayplat.train.elastic`, on spot nodes."""

    task: Any
    door: Any
    secret: str
    windows: Sequence[Window]
    begun: float = field(default_factory=time.time)
    nodes: dict[str, Node] = field(default_factory=dict)
    billed: list[Node] = field(default_factory=list)
    killed: int = 0
    lock: Any = field(default_factory=threading.RLock)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread(target=self._take_away, daemon=True).start()

    @property
    def now(self) -> float:
        return time.time() - self.begun

    def fill(self) -> list[tuple[str, int]]:
        with self.lock:
            used = {node.window for node in self.billed}
            busy = {node.window.slot for node in self.nodes.values()}
            free = [
                w
                for w in self.windows
                if w not in used and w.slot not in busy and w.begin <= self.now < w.end - 2 * NOTICE_S
            ]
            return [(self._start(window), window.slot) for window in free]

    def _start(self, window: Window) -> str:
        from rayplat.train.elastic.member import Place

        member = f"{window.slot}-{secrets.token_hex(3)}"
        place = Place(self.door.address, self.secret, member, HOST, 600.0)
        process = _CONTEXT.Process(target=be_member, args=(self.task, place), daemon=True)
        process.start()
        self.nodes[member] = Node(window, process, self.now)
        self.billed.append(self.nodes[member])
        return member

    def _take_away(self) -> None:
        """A node goes when its window ends, whoever is on it."""
        while not self.over.wait(0.01):
            with self.lock:
                for node in self.nodes.values():
                    if node.given_back is None and self.now >= node.window.end:
                        node.process.kill()
                        node.given_back = self.now
                        self.killed += 1

    def promote(self, member: str) -> int | None:
        return self.nodes[member].window.slot

    def ended(self) -> list[str]:
        with self.lock:
            return [m for m, node in self.nodes.items() if not node.process.is_alive()]

    def why(self, member: str) -> str:
        return "its node is gone"

    def leaving(self) -> dict[str, float]:
        with self.lock:
            soon = {m: node.window.end for m, node in self.nodes.items()}
            return {m: self.begun + end for m, end in soon.items() if end - self.now <= NOTICE_S}

    def forget(self, member: str) -> None:
        with self.lock:
            node = self.nodes.pop(member, None)
            if node is not None:
                node.process.kill()
                node.given_back = self.now if node.given_back is None else node.given_back

    def release(self, member: str) -> None:
        self.forget(member)

    def close(self) -> None:
        self.over.set()
        for member in list(self.nodes):
            self.forget(member)
        for node in self.billed:
            with contextlib.suppress(AssertionError):
                node.process.join(5)

    def seconds(self) -> float:
        """Node seconds to pay."""
        return sum((self.now if n.given_back is None else n.given_back) - n.taken for n in self.billed)


def be_member(task: Any, place: Any) -> None:
    from rayplat.train.elastic.member import Member

    Member(task, place).train()


@dataclass(frozen=True)
class Trainer:
    """A trainer that is computed, not run.

    Attributes:
        start_s: from a node's begin until it trains; paid.
        restarts: whether a change of nodes stops all of them for `start_s`, and goes back to a checkpoint.
        checkpoint_s: between its checkpoints.
    """

    start_s: float
    restarts: bool
    checkpoint_s: float = 0.0


def replay(windows: Sequence[Window], work_s: float, trainer: Trainer) -> float:
    """Node seconds that a trainer pays for `work_s` seconds of one node's work, in the windows of a trace."""
    tick, now, done, kept, paid, stop_until = 0.01, 0.0, 0.0, 0.0, 0.0, 0.0
    last_kept, before = 0.0, frozenset[Window]()
    while done < work_s and now < 10_000:
        there = frozenset(w for w in windows if w.begin <= now < w.end)
        if trainer.restarts and there != before:
            done, stop_until, last_kept = kept, now + trainer.start_s, now + trainer.start_s
        before = there
        paid += tick * len(there)
        if trainer.restarts:
            training = len(there) if now >= stop_until else 0
        else:
            training = sum(now >= w.begin + trainer.start_s for w in there)
        done += tick * training
        if now - last_kept >= trainer.checkpoint_s:
            kept, last_kept = done, now
        now += tick
    return paid

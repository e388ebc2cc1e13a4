"""A process that is asked for and does not come is asked for again, so often, and that is no loss."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest

from rayplat.train.elastic.controller import Controller, FailedError
from rayplat.train.elastic.door import Door
from rayplat.train.elastic.facts import MemberFact, Phase
from rayplat.train.elastic.membership import Wait
from rayplat.train.elastic.starts import START_S, START_TRIES, Renew, decide_start
from rayplat.train.worker import WorkerTask

from .processes import HOST, Group, InMemory

NOW = 100.0
AWAITED = MemberFact("0-a", 0, Phase.STARTING, since=NOW)
PROJECT = Path(__file__).parents[1] / "projects" / "recorded.py"
LOOKS = 12


def test_a_place_is_reserved_anew_at_its_deadline_and_not_before():
    assert decide_start(AWAITED, 0, NOW) == Wait(START_S)
    assert decide_start(AWAITED, 0, NOW + START_S - 1) == Wait(1.0)
    assert isinstance(decide_start(AWAITED, 0, NOW + START_S), Renew)


def test_each_try_has_twice_the_time_and_after_the_last_there_is_no_deadline():
    for renewed in range(START_TRIES):
        deadline = NOW + START_S * 2**renewed
        assert isinstance(decide_start(AWAITED, renewed, deadline - 0.1), Wait)
        decision = decide_start(AWAITED, renewed, deadline)
        assert isinstance(decision, Renew)
        assert f"{renewed + 1} of {START_TRIES}" in decision.reason
        assert ("for the last time" in decision.reason) == (renewed + 1 == START_TRIES)
    assert isinstance(decide_start(AWAITED, START_TRIES, NOW + 10**6), Wait)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.STARTING])
def test_a_member_that_has_spoken_has_come(phase):
    assert isinstance(decide_start(replace(AWAITED, phase=phase), 0, NOW + 10**6), Wait)


class OverError(Exception):
    """The controller has looked often enough."""


@dataclass
class Asked:
    """Places in which no process ever says anything: it does not come, it came and is silent, or it ends."""

    comes: bool = False
    ends: bool = False
    member: str = ""
    renewed: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    looks: int = 0

    def fill(self) -> list[tuple[str, int]]:
        if self.member:
            return []
        self.member = f"0-{next(self.numbers)}"
        return [(self.member, 0)]

    def promote(self, member: str) -> int | None:
        return 0

    def ended(self) -> list[str]:
        return [self.member] if self.ends else []

    def why(self, member: str) -> str:
        return "its class cannot be loaded"

    def awaited(self) -> list[str]:
        self.looks += 1
        if self.looks > LOOKS:
            raise OverError
        return [] if self.comes or self.ends else [self.member]

    def renew(self, member: str) -> None:
        self.renewed.append(member)
        self.member = ""

    def leaving(self) -> dict[str, float]:
        return {}

    def forget(self, member: str) -> None:
        self.forgotten.append(member)
        self.member = ""

    def release(self, member: str) -> None:
        raise AssertionError(f"nobody leaves, {member} neither")


def run(asked: Asked, told: list[str]) -> None:
    door = Door(HOST, "secret")
    try:
        Controller(asked, door, 1, 1, lambda text, _: told.append(text), start_s=0.01).run()
    finally:
        door.close()


def test_the_tries_are_bounded_and_told():
    asked, told = Asked(), list[str]()
    with pytest.raises(OverError):
        run(asked, told)
    assert asked.renewed == ["0-0", "0-1", "0-2"]
    assert len(told) == START_TRIES
    assert asked.member == "0-3"  # still waited for
    assert asked.forgotten == []


def test_a_process_that_came_and_is_silent_is_not_asked_for_again():
    asked, told = Asked(comes=True), list[str]()
    with pytest.raises(OverError):
        run(asked, told)
    assert (asked.renewed, told) == ([], [])


def test_a_process_that_ends_before_it_came_is_a_bad_start_as_before():
    asked = Asked(ends=True)
    with pytest.raises(FailedError, match="3 restarts"):
        run(asked, [])
    assert (asked.renewed, len(asked.forgotten)) == ([], 3)


def test_a_run_whose_first_processes_never_came_trains_without_a_loss(tmp_path: Path):
    shutil.copy(PROJECT, tmp_path / "recorded.py")
    rows = InMemory(200)
    task = WorkerTask(str(tmp_path / "recorded.py"), "recorded", rows, f"file://{tmp_path}/run", 1)  # type: ignore[arg-type]
    with Group(task, 2, 2, room=2, start_s=0.3, never_come=3) as group:
        outcome = group.wait()
    assert (outcome.losses, outcome.worlds) == (0, (2,))
    assert len([text for text in group.told if "is reserved anew" in text]) == 3

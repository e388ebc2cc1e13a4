"""Between two steps: who saves, who stands, who leaves."""

import threading
import time
from typing import Any

import pytest
import torch

from rayplat.train.elastic.between import Wish, _wish, between_steps
from rayplat.train.elastic.notice import Departure
from rayplat.train.leaving import LeaveError


class FakeLink:
    """What the controller has said, and what it was told."""

    def __init__(self, deadline: float | None = None) -> None:
        self.regroup, self.stop = threading.Event(), threading.Event()
        self.deadline = deadline
        self.said: list[str] = []

    def say(self, what: str, **more: Any) -> None:
        self.said.append(what)
        self.regroup.set()  # the controller ends a member that stands; here it may leave


class FakeHandle:
    durable_s, error = 0.01, None

    def wait(self, timeout: float | None = None) -> None:
        """It is durable."""


class FakeRun:
    """A run with a network that is whole, which counts its saves."""

    def __init__(self) -> None:
        self.network = torch.nn.Linear(1, 1)
        self.live: Any = type("Live", (), {"step": 7})
        self.saves = 0

    def save(self, *, just_in_time: bool) -> FakeHandle:
        assert just_in_time
        self.saves += 1
        return FakeHandle()


def take(run: Any, link: Any, departure: Departure) -> None:
    between_steps(run, link, departure)


def test_nothing_is_done_while_nobody_wants_anything():
    run, link = FakeRun(), FakeLink()
    take(run, link, Departure())
    assert (run.saves, link.said) == (0, [])


@pytest.mark.parametrize("asked", ["regroup", "stop"])
def test_a_worker_with_the_whole_state_leaves_without_a_save(asked):
    run, link = FakeRun(), FakeLink()
    getattr(link, asked).set()
    with pytest.raises(LeaveError):
        take(run, link, Departure())
    assert run.saves == 0


def test_a_notice_is_saved_at_once_and_trained_on():
    run, link = FakeRun(), FakeLink(time.time() + 60)
    departure = Departure()
    for _ in range(3):
        take(run, link, departure)
    assert (run.saves, link.said, link.deadline) == (1, [], None)


def test_the_last_save_is_told_and_no_further_step_is_taken():
    run, link = FakeRun(), FakeLink(time.time() + 0.1)
    with pytest.raises(LeaveError):
        take(run, link, Departure())
    assert (run.saves, link.said) == (1, ["saved"])


def test_the_strongest_wish_counts():
    link: Any = FakeLink()
    now = [100.0]
    departure = Departure(lambda: now[0])
    assert _wish(link, departure) is Wish.GO_ON
    departure.announce(160.0)
    assert _wish(link, departure) is Wish.SAVE
    departure.take(lambda: None, last=False)
    now[0] = 159.8
    assert _wish(link, departure) is Wish.SAVE_LAST
    link.regroup.set()
    assert _wish(link, departure) is Wish.LEAVE
    assert max(Wish) is Wish.LEAVE
    assert Wish.SAVE_LAST > Wish.STAND > Wish.SAVE > Wish.GO_ON

"""Who waits for room in a quota: first come, first served, nobody behind a dead one, and out in the end."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rayplat.cluster.jobs.line import FORGOTTEN_S, Line, Waiter, in_line
from rayplat.cluster.jobs.record import Needs
from rayplat.cluster.jobs.request import Admission, Admitted, JobRequest, OverQuota, Refused
from rayplat.core.settings import Settings

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
FULL = OverQuota("team risk may hold 4 GPU", "wait")


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings.model_validate({"home": tmp_path})


def _ask() -> JobRequest:
    return JobRequest(command=("a",), folder=Path(), user="ada", team="risk", needs=Needs(gpus=2))


def _waiter(name: str, since: datetime) -> Waiter:
    return Waiter(name, "risk", "bob", {"GPU": 1.0}, since, "over a quota: full")


def _door(*answers: Admission) -> Callable[[JobRequest], Admission]:
    left = list(answers)
    return lambda _request: left.pop(0) if len(left) > 1 else left[0]


def test_the_eldest_stands_first_and_who_is_silent_is_forgotten(home: Settings) -> None:
    young, old = _waiter("young", NOW), _waiter("old", NOW - timedelta(seconds=9))
    with Line(home) as line:
        line.stand(young, NOW)
        line.stand(old, NOW)
        line.stand(replace(young, why="still"), NOW + timedelta(seconds=FORGOTTEN_S))
        assert [w.waiter for w in line.waiting(NOW)] == ["old", "young"]
        (left,) = line.waiting(NOW + timedelta(seconds=FORGOTTEN_S + 1))
        assert (left.waiter, left.why, left.resources) == ("young", "still", {"GPU": 1.0})
        line.leave("young")
        assert [w.waiter for w in line.waiting(NOW)] == ["old"]


def test_it_waits_is_seen_and_leaves(home: Settings) -> None:
    told: list[str] = []
    seen: list[Waiter] = []

    def look(_: float) -> None:
        with Line(home) as line:
            seen.extend(line.waiting(datetime.now(UTC)))

    decision = in_line(home, _ask(), _door(FULL, FULL, Admitted()), told.append, look)
    assert decision == Admitted()
    assert told == ["waits: over a quota: team risk may hold 4 GPU"]
    assert [(w.user, w.resources, w.why) for w in seen] == [
        ("ada", {"GPU": 2.0}, "over a quota: team risk may hold 4 GPU")
    ] * 2
    with Line(home) as line:
        assert line.waiting(datetime.now(UTC)) == []


def test_who_came_later_lets_the_former_go_first_and_another_team_does_not_wait(home: Settings) -> None:
    before = _waiter("before", datetime.now(UTC) - timedelta(seconds=1))
    told: list[str] = []
    with Line(home) as line:
        line.stand(replace(before, team="ops", waiter="other"), datetime.now(UTC))
        line.stand(before, datetime.now(UTC))
        in_line(home, _ask(), _door(Admitted()), told.append, lambda _: line.leave("before"))
    assert told == ["waits: over a quota: behind 1 of its team"]


def test_another_refusal_and_an_interrupt_end_the_waiting(home: Settings) -> None:
    spent = Refused("the budget is spent", "wait for the next month")
    assert in_line(home, _ask(), _door(FULL, spent), str, lambda _: None) == spent

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_line(home, _ask(), _door(FULL), str, interrupt)
    with Line(home) as line:
        assert line.waiting(datetime.now(UTC)) == []

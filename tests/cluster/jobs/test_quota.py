"""Teams and their quotas as a door, and doors behind each other."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from rayplat.cluster.jobs.quota import Teams, as_resources, decide, quota_status
from rayplat.cluster.jobs.record import JobRecord, JobState, Needs
from rayplat.cluster.jobs.request import (
    Admission,
    Admitted,
    JobRequest,
    Refused,
    Warned,
    admit_all,
    admit_in_turn,
)
from rayplat.cluster.spec import Team

TEAMS = Teams({"risk": Team(quota={"GPU": 4, "memory": 2 * 2**30}, members=["ada"]), "ops": Team()})


def _ask(user: str = "ada", team: str = "risk", **needs: float) -> JobRequest:
    return JobRequest(command=("a",), folder=Path(), user=user, team=team, needs=Needs(**needs))


@pytest.mark.parametrize(
    ("request_", "held", "why"),
    [
        (_ask(gpus=4), Needs(), ""),
        (_ask(gpus=2), Needs(gpus=2), ""),
        (_ask(gpus=2), Needs(gpus=2.5), "may hold 4 GPU at a time: its open jobs declare 2.5"),
        (_ask(gpus=5), Needs(), "this one declares 5"),
        (_ask(cpus=1000), Needs(), ""),  # no limit is named
        (_ask(), Needs(gpus=9), ""),  # declares nothing
        (_ask(memory_gib=3), Needs(), "memory"),
        (_ask("bob", "ops", gpus=99), Needs(), ""),
        (_ask("ada", "ops"), Needs(), "ada is in team 'risk', not in 'ops'"),
        (_ask("ada", ""), Needs(), "ada is in team 'risk'"),
        (_ask("bob", "rsik"), Needs(), "there is no team 'rsik'"),
        (_ask("bob", ""), Needs(), ""),
    ],
)
def test_a_team_has_what_its_quota_says(request_: JobRequest, held: Needs, why: str) -> None:
    decision = decide(request_, TEAMS, held)
    if why:
        assert isinstance(decision, Refused)
        assert why in decision.why
        assert decision.mend
    else:
        assert decision == Admitted()


def test_without_teams_nobody_is_counted() -> None:
    assert decide(_ask("x", "y", gpus=1e6), Teams({}), Needs()) == Admitted()
    assert (TEAMS.of("ada"), TEAMS.of("bob")) == ("risk", "")


def test_needs_are_told_as_ray_s_resources() -> None:
    assert as_resources(Needs(cpus=1, gpus=2, memory_gib=0.5)) == {"CPU": 1, "GPU": 2, "memory": 2**29}


def test_a_quota_stands_beside_what_open_jobs_declare() -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    jobs = [
        JobRecord(submission_id="a", team="risk", needs=Needs(gpus=3), submitted_at=at),
        JobRecord(submission_id="b", team="ops", needs=Needs(gpus=9), submitted_at=at),
        JobRecord(
            submission_id="c", team="risk", needs=Needs(gpus=1), submitted_at=at, status=JobState.SUCCEEDED
        ),
    ]
    assert quota_status("risk", TEAMS.by_name["risk"], jobs) == [("GPU", 3, 4), ("memory", 0, 2 * 2**30)]
    assert quota_status("ops", TEAMS.by_name["ops"], jobs) == []


def test_a_refusal_behind_warnings_counts_and_warnings_add_up() -> None:
    asked: list[str] = []

    def door(name: str, decision: Admission) -> object:
        def admit(_request: JobRequest) -> Admission:
            asked.append(name)
            return decision

        return admit

    low, high = door("low", Warned("80 % spent")), door("high", Warned("new prices"))
    shut, last = door("shut", Refused("spent", "wait")), door("last", Admitted())
    assert admit_in_turn(low, high, last)(_ask()) == Warned("80 % spent; new prices")
    assert admit_in_turn(low, shut, last)(_ask()) == Refused("spent", "wait")
    assert asked == ["low", "high", "last", "low", "shut"]
    assert admit_in_turn()(_ask()) == admit_all(_ask()) == Admitted()

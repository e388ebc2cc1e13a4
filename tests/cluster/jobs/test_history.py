"""The history: one suite over SQLite and a real Postgres."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from rayplat.cluster.jobs.history import JobHistory
from rayplat.cluster.jobs.record import JobRecord, JobState, Needs
from rayplat.core.errors import ConflictError, NotFoundError
from rayplat.core.settings import Settings
from tests.servers import fresh_database

NOW = datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobHistory]:
    database = ""
    if request.param == "postgres":
        database = fresh_database(request.getfixturevalue("postgres_url"))
    made = JobHistory(Settings.model_validate({"home": tmp_path, "database": database}))
    yield made
    made.close()


def _job(submission_id: str, **more: object) -> JobRecord:
    return replace(JobRecord(submission_id=submission_id, submitted_at=NOW), **more)


FULL = JobRecord(
    submission_id="j1",
    ray_job_id="02000000",
    user="ada",
    team="risk",
    project="flights",
    purpose="a trial, été",
    command="python jobs/train.py --project 'a b'",
    needs=Needs(cpus=2.5, gpus=1.0, memory_gib=8.0),
    package="d" * 64,
    packages="pip",
    runtime_digest="e" * 64,
    place="http://head:8265",
    session="session_1",
    submitted_at=NOW,
    started_at=NOW + timedelta(seconds=1),
    ended_at=NOW + timedelta(seconds=2.5),
    status=JobState.FAILED,
    message="exit code 3",
    exit_code=3,
    log="file:///w/jobs/logs/j1.log",
    cost=Decimal("12.340000000000000001"),
    resumed_from="j0",
    settled=True,
)


def test_a_record_comes_back_as_it_was(history: JobHistory) -> None:
    history.add(FULL)
    history.add(_job("bare"))
    assert history.get("j1") == FULL
    assert history.get("bare") == _job("bare")


def test_an_id_is_given_once(history: JobHistory) -> None:
    history.add(_job("j"))
    with pytest.raises(ConflictError, match="there is a job 'j' already"):
        history.add(_job("j"))


def test_an_unknown_job_is_not_found(history: JobHistory) -> None:
    assert history.find("none") is None
    for ask in (
        history.get,
        lambda j: history.change(j, lambda r: r),
        lambda j: history.set_cost(j, Decimal(1)),
    ):
        with pytest.raises(NotFoundError, match="there is no job 'none'"):
            ask("none")


def test_a_change_is_decided_on_what_is_stored(history: JobHistory) -> None:
    history.add(_job("j"))
    threads = [
        threading.Thread(target=lambda: history.change("j", lambda r: replace(r, message=r.message + "x")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert history.get("j").message == "x" * 8


def test_a_job_is_resumed_once_at_a_time(history: JobHistory) -> None:
    history.add(_job("j1", resumed_from="j0"))
    with pytest.raises(ConflictError, match="has been resumed already, as j1"):
        history.add(_job("j2", resumed_from="j0"))
    history.change("j1", lambda r: replace(r, status=JobState.FAILED))
    history.add(_job("j2", resumed_from="j0"))
    assert history.get("j2").resumed_from == "j0"


def test_the_newest_come_first_and_can_be_chosen(history: JobHistory) -> None:
    for number, team in enumerate(["risk", "ops", "risk", "risk"]):
        at = NOW + timedelta(seconds=number)
        history.add(_job(f"j{number}", team=team, project="p" if number else "q", submitted_at=at))
    history.change("j2", lambda r: replace(r, settled=True, status=JobState.SUCCEEDED))
    assert [j.submission_id for j in history.newest()] == ["j3", "j2", "j1", "j0"]
    assert [j.submission_id for j in history.newest(2, team="risk")] == ["j3", "j2"]
    assert [j.submission_id for j in history.newest(team="risk", project="q")] == ["j0"]
    assert [j.submission_id for j in history.newest(status="SUCCEEDED")] == ["j2"]
    assert [j.submission_id for j in history.unsettled()] == ["j0", "j1", "j3"]
    assert history.known(["j1", "none"]) == {"j1"}
    history.remove("j3")
    assert history.find("j3") is None


def test_the_cost_is_exact(history: JobHistory) -> None:
    history.add(_job("j"))
    assert history.get("j").cost is None
    history.set_cost("j", Decimal("0.10"))
    assert history.get("j").cost == Decimal("0.10")

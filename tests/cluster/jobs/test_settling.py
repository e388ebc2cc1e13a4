"""What becomes of a job's record by what is seen of its cluster."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rayplat.cluster.jobs.client import Seen
from rayplat.cluster.jobs.record import ENDED, FINAL, JobRecord, JobState
from rayplat.cluster.jobs.settling import Answers, Gone, Silent, View, adopted, settled, shown

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OPEN = JobRecord(
    submission_id="j",
    command="python a.py",
    place="here",
    session="s1",
    submitted_at=NOW - timedelta(hours=1),
    started_at=NOW - timedelta(minutes=59),
    status=JobState.RUNNING,
)


def _seen(status: str = "RUNNING", ended: float | None = None, code: int | None = None) -> Seen:
    return Seen("j", "02", "python a.py", status, f"it is {status}", 1000.0, ended, code, {}, "gcs://p.zip")


def _answers(*jobs: Seen, place: str = "here", session: str = "s1") -> Answers:
    return Answers(place, session, {job.submission_id: job for job in jobs})


def test_the_cluster_s_word_counts() -> None:
    after = settled(OPEN, _answers(_seen("FAILED", 2000.0, 3)), NOW)
    assert (after.status, after.exit_code, after.message) == (JobState.FAILED, 3, "it is FAILED")
    assert after.ended_at == datetime.fromtimestamp(2000, UTC)
    assert after.settled is True
    assert settled(after, _answers(_seen()), NOW) == after


def test_a_job_that_told_its_own_end_is_confirmed_or_corrected() -> None:
    told = replace(OPEN, status=JobState.SUCCEEDED)
    assert settled(told, _answers(_seen("STOPPED", 2000.0)), NOW).status == JobState.STOPPED
    alone = settled(told, Gone("here"), NOW)
    assert (alone.status, alone.settled) == (JobState.SUCCEEDED, True)


def test_without_its_cluster_a_job_is_lost() -> None:
    lost = settled(OPEN, Gone("here"), NOW)
    assert (lost.status, lost.ended_at) == (JobState.LOST, NOW)
    assert "it was RUNNING before" in lost.message
    assert settled(lost, Gone("here"), NOW + timedelta(hours=1)) == lost


def test_a_cluster_that_was_started_anew_does_not_know_it() -> None:
    lost = settled(OPEN, _answers(session="s2"), NOW)
    assert (lost.status, lost.settled) == (JobState.LOST, True)


def test_a_lost_job_whose_cluster_came_back_runs() -> None:
    lost = settled(OPEN, Gone("here"), NOW)
    back = settled(lost, _answers(_seen()), NOW)
    assert (back.status, back.ended_at) == (JobState.RUNNING, None)


def test_a_job_on_its_way_is_given_a_minute() -> None:
    young = replace(OPEN, status=JobState.SUBMITTING, submitted_at=NOW - timedelta(seconds=59))
    assert settled(young, _answers(), NOW) == young
    old = replace(young, submitted_at=NOW - timedelta(seconds=61))
    assert settled(old, _answers(), NOW).status == JobState.LOST


@pytest.mark.parametrize("view", [Gone("elsewhere"), _answers(place="elsewhere", session="s9"), Silent("x")])
def test_what_is_seen_of_another_cluster_changes_nothing(view: View) -> None:
    assert settled(OPEN, view, NOW) == OPEN
    assert shown(OPEN, view).status == JobState.UNKNOWN


_VIEWS: list[View] = [
    Gone("here"),
    Gone("elsewhere"),
    Silent("no answer"),
    _answers(session="s2"),
    _answers(place="elsewhere", session="s9"),
    _answers(),
]


@pytest.mark.parametrize("view", _VIEWS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("status", [s for s in JobState if s not in (*ENDED, JobState.UNKNOWN)])
def test_a_job_that_no_cluster_vouches_for_is_never_told_as_running(status: JobState, view: View) -> None:
    record = replace(OPEN, status=status)
    assert shown(settled(record, view, NOW), view).status in (JobState.LOST, JobState.UNKNOWN)


@pytest.mark.parametrize("status", sorted(FINAL))
@pytest.mark.parametrize("view", _VIEWS, ids=lambda v: type(v).__name__)
def test_how_a_job_ended_is_not_forgotten(status: JobState, view: View) -> None:
    record = replace(OPEN, status=status)
    assert shown(settled(record, view, NOW), view).status == status
    confirmed = replace(record, settled=True)
    assert settled(confirmed, view, NOW) == confirmed


def test_a_job_of_others_is_written_down_with_what_its_metadata_says() -> None:
    seen = replace(_seen(), metadata={"rayplat.user": "ada", "rayplat.purpose": "trial", "x": "y"})
    record = adopted(seen, _answers(seen), NOW)
    assert (record.user, record.team, record.purpose, record.command) == ("ada", "", "trial", "python a.py")
    assert record.submitted_at == datetime.fromtimestamp(1000, UTC)
    assert settled(record, _answers(seen), NOW).status == JobState.RUNNING

"""Submitting over a real socket: nothing is ever half-submitted, and a lost job is resumed as it was."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayplat.cluster.head import forget_head, ray_folder
from rayplat.cluster.jobs.address import own_place
from rayplat.cluster.jobs.command import check
from rayplat.cluster.jobs.environment import digest_of, pinned_requirements, runtime_environment
from rayplat.cluster.jobs.folder import PackedFile, packed, unpack
from rayplat.cluster.jobs.following import log_of
from rayplat.cluster.jobs.history import JobHistory
from rayplat.cluster.jobs.quota import teams_of
from rayplat.cluster.jobs.record import JobRecord, JobState
from rayplat.cluster.jobs.request import JobRequest, Refused, RefusedError, Warned
from rayplat.cluster.jobs.settling import last_look, settle, shown
from rayplat.cluster.jobs.submission import resume, stop, submit
from rayplat.core.errors import ConflictError, NotFoundError, UnavailableError, UserError
from rayplat.core.settings import Settings
from tests.cluster.jobs.fakes import FakeDashboard


def _ask(folder: Path, **more: Any) -> JobRequest:
    whole = {"command": ("python", "jobs/train.py"), "folder": folder, "user": "ada", **more}
    return JobRequest(**whole)


def _look(settings: Settings) -> list[JobRecord]:
    with closing(JobHistory(settings)) as history:
        view = settle(settings, history)
        return [shown(record, view) for record in history.newest()]


def _drained(settings: Settings, submission_id: str) -> tuple[str, JobRecord]:
    parts, whole = log_of(settings, submission_id), ""
    while True:
        try:
            whole += next(parts)
        except StopIteration as end:
            return whole, end.value


def test_the_cluster_gets_command_folder_and_metadata(
    settings: Settings, folder: Path, dashboard: FakeDashboard
) -> None:
    asked = _ask(folder, team="risk", project="small", purpose="trial")
    job = submit(settings, asked, check=check).job
    told = dashboard.jobs[job.submission_id]
    assert told["entrypoint"] == "python jobs/train.py"
    assert told["metadata"] == {
        "rayplat.user": "ada",
        "rayplat.team": "risk",
        "rayplat.project": "small",
        "rayplat.purpose": "trial",
    }
    environment = told["runtime_env"]
    assert environment["env_vars"] == {"RAYPLAT_USER": "ada", "RAYPLAT_JOBS__TEAM": "risk"}
    name = environment["working_dir"].removeprefix("gcs://")
    sent = unpack(dashboard.packages[name], job.package)
    assert [f.path for f in sent.files] == ["jobs/job.py", "jobs/train.py", "small.py"]
    assert job.runtime_digest == digest_of(environment)
    assert (job.status, job.session, job.packages) == (JobState.PENDING, "session_1", "none")


def test_the_same_folder_is_sent_once(settings: Settings, folder: Path, dashboard: FakeDashboard) -> None:
    for _ in range(2):
        submit(settings, _ask(folder))
    assert sum(r.startswith("PUT") for r in dashboard.requests) == 1


@pytest.mark.parametrize("fault", ["refused", "check", "folder", "token", "submission"])
def test_nothing_is_half_submitted(
    settings: Settings, folder: Path, dashboard: FakeDashboard, fault: str
) -> None:
    asked, admit = _ask(folder), lambda _request: Warned("soon")
    if fault == "refused":
        admit = lambda _request: Refused("the budget is spent", "wait for next month")  # noqa: E731
    elif fault == "check":
        asked = _ask(folder, command=("python", "gone.py"))
    elif fault == "folder":
        asked = _ask(folder / "none")
    elif fault == "token":
        dashboard.token = "secret"
    else:
        dashboard.refuse_jobs = True
    with pytest.raises((UserError, UnavailableError)) as told:
        submit(settings, asked, admit, check)
    assert isinstance(told.value, RefusedError) == (fault == "refused")
    dashboard.token = ""
    assert dashboard.jobs == {}
    assert _look(settings) == []
    if fault != "submission":
        assert not [r for r in dashboard.requests if not r.startswith("GET")]
        assert not (settings.home / "warehouse").exists()


def test_a_warning_is_handed_on(settings: Settings, folder: Path) -> None:
    sent = submit(settings, _ask(folder), lambda _request: Warned("80 % of the budget is spent"))
    assert sent.notes == ("warning: 80 % of the budget is spent",)


def test_a_lost_answer_is_no_lost_job(settings: Settings, folder: Path, dashboard: FakeDashboard) -> None:
    dashboard.lose_answers = True
    job = submit(settings, _ask(folder)).job
    assert list(dashboard.jobs) == [job.submission_id]
    assert [j.status for j in _look(settings)] == [JobState.RUNNING]


def test_a_submitter_that_died_before_the_cluster_took_it_leaves_no_job_running(
    settings: Settings, dashboard: FakeDashboard
) -> None:
    record = JobRecord(
        submission_id="j", place=dashboard.address, session="session_1", submitted_at=_hour_ago()
    )
    with closing(JobHistory(settings)) as history:
        history.add(record)
    assert [j.status for j in _look(settings)] == [JobState.LOST]


def _hour_ago() -> Any:
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) - timedelta(hours=1)


def test_the_history_outlives_the_cluster(settings: Settings, folder: Path, dashboard: FakeDashboard) -> None:
    job = submit(settings, _ask(folder)).job
    dashboard.finish(job.submission_id, "FAILED", 3)
    assert [(j.status, j.exit_code) for j in _look(settings)] == [(JobState.FAILED, 3)]
    dashboard.jobs.clear()
    dashboard.version = "gone"
    (only,) = _look(settings)
    assert (only.status, only.message) == (JobState.FAILED, "it is FAILED")
    log, ended = _drained(settings, job.submission_id)
    assert log == f"the log of {job.submission_id}\n"
    assert ended.status == JobState.FAILED


def test_jobs_of_others_are_in_the_history(settings: Settings, dashboard: FakeDashboard) -> None:
    dashboard.take("raysubmit_plain", "python x.py", metadata={"rayplat.user": "bob"})
    (job,) = _look(settings)
    assert (job.submission_id, job.user, job.status) == ("raysubmit_plain", "bob", JobState.RUNNING)
    dashboard.finish("raysubmit_plain", "SUCCEEDED", 0)
    assert _look(settings)[0].log.endswith("/jobs/logs/raysubmit_plain.log")


def test_a_cluster_that_cannot_be_asked_leaves_its_jobs_unknown(
    settings: Settings, folder: Path, dashboard: FakeDashboard
) -> None:
    job = submit(settings, _ask(folder)).job
    right, dashboard.version = dashboard.version, "not ray"
    assert [j.status for j in _look(settings)] == [JobState.UNKNOWN]
    with pytest.raises(UnavailableError, match="cannot be asked"):
        _drained(settings, job.submission_id)
    dashboard.version = right
    assert [j.status for j in _look(settings)] == [JobState.RUNNING]


def test_the_last_look_before_a_cluster_is_forgotten_takes_the_log_along(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    last_look(settings)
    assert not settings.home.exists()  # no job was ever written down: nothing is opened
    log = ray_folder(settings) / "session_1" / "logs" / "job-driver-j.log"
    log.parent.mkdir(parents=True)
    try:
        log.write_text("as far as it came\n")
        with closing(JobHistory(settings)) as history:
            history.add(JobRecord(submission_id="j", place=own_place(settings), submitted_at=_hour_ago()))
        last_look(settings)
    finally:
        forget_head(settings)
    (job,) = _look(settings)
    assert (job.status, job.settled) == (JobState.LOST, False)
    assert _drained(settings, "j") == ("as far as it came\n", job)


def test_a_lost_job_is_resumed_as_it_was(settings: Settings, folder: Path, dashboard: FakeDashboard) -> None:
    first = submit(settings, _ask(folder, team="risk", purpose="trial")).job
    dashboard.jobs.clear()
    dashboard.packages.clear()
    dashboard.version = {**dashboard.version, "session_name": "session_2"}
    (folder / "small.py").write_text("changed since\n")
    again = resume(settings, first.submission_id).job
    told = dashboard.jobs[again.submission_id]
    assert told["entrypoint"] == "python jobs/train.py"
    assert told["metadata"]["rayplat.resumed_from"] == first.submission_id
    assert (again.package, again.runtime_digest) == (first.package, first.runtime_digest)
    assert (again.team, again.purpose, again.user) == ("risk", "trial", "ada")
    name = told["runtime_env"]["working_dir"].removeprefix("gcs://")
    assert {f.path: f.content for f in unpack(dashboard.packages[name], first.package).files}["small.py"] == (
        b"small = 1\n"
    )
    assert [j.status for j in _look(settings)] == [JobState.RUNNING, JobState.LOST]
    with pytest.raises(ConflictError, match="resumed already"):
        resume(settings, first.submission_id)


def test_what_runs_or_is_done_is_not_resumed(
    settings: Settings, folder: Path, dashboard: FakeDashboard
) -> None:
    job = submit(settings, _ask(folder)).job
    with pytest.raises(ConflictError, match="is RUNNING"):
        resume(settings, job.submission_id)
    dashboard.finish(job.submission_id, "SUCCEEDED", 0)
    with pytest.raises(UserError, match="is SUCCEEDED"):
        resume(settings, job.submission_id)
    with pytest.raises(NotFoundError, match="there is no job 'none'"):
        resume(settings, "none")


def test_a_resumed_job_passes_the_same_door(
    settings: Settings, folder: Path, dashboard: FakeDashboard
) -> None:
    job = submit(settings, _ask(folder)).job
    dashboard.finish(job.submission_id, "STOPPED")
    with pytest.raises(RefusedError, match="spent"):
        resume(settings, job.submission_id, lambda _request: Refused("spent", "wait"))
    assert len(dashboard.jobs) == 1


def test_a_job_is_stopped_once(settings: Settings, folder: Path) -> None:
    job = submit(settings, _ask(folder)).job
    stopped, now = stop(settings, job.submission_id)
    assert (stopped, now.status) == (True, JobState.STOPPED)
    assert stop(settings, job.submission_id)[0] is False
    with pytest.raises(NotFoundError):
        stop(settings, "none")


LOCK = "# pins\nhttpx==0.28.1\nHttpcore==1.0.9\npyarrow==25.0.0\nray==2.60.0\nunrelated==1.0\nPyYAML==6.0.2\n"


def test_another_environment_gets_the_pins_of_the_lock(folder: Path) -> None:
    # httpcore is needed by httpx alone; what nobody needs and Ray itself are left out.
    wanted = ["Httpcore==1.0.9", "PyYAML==6.0.2", "httpx==0.28.1", "pyarrow==25.0.0"]
    assert sorted(pinned_requirements(LOCK)) == wanted
    package = packed([PackedFile("constraints.txt", False, LOCK.encode())])
    code = packed([PackedFile("rayplat/__init__.py", False, b"")])
    pip = runtime_environment(_ask(folder), package, "pip", code)
    assert sorted(pip["pip"]["packages"]) == wanted
    assert pip["py_modules"] == [f"gcs://{code.name}"]
    with pytest.raises(UserError, match=r"holds no constraints\.txt"):
        runtime_environment(_ask(folder), packed([]), "pip", None)
    with pytest.raises(UserError, match="is no pin"):
        pinned_requirements("httpx>=0.28\n")


def test_the_team_of_a_user_is_read_from_the_cluster_file(settings: Settings, tmp_path: Path) -> None:
    spec = tmp_path / "platform.yaml"
    spec.write_text("teams:\n  risk: {members: [ada]}\n")
    named = settings.model_copy(update={"ray": settings.ray.model_copy(update={"spec": str(spec)})})
    assert teams_of(named).of("ada") == "risk"
    assert teams_of(settings).of("ada") == ""
    assert replace(_ask(tmp_path), team="risk").team == "risk"

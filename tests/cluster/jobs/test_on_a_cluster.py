"""Jobs on a real, token-protected Ray: ours and plain ones, good and bad, and what a killed head leaves."""

import contextlib
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from rayplat.cluster.head import read_head
from rayplat.cluster.jobs.command import check
from rayplat.cluster.jobs.following import log_of
from rayplat.cluster.jobs.history import JobHistory
from rayplat.cluster.jobs.record import JobRecord, JobState
from rayplat.cluster.jobs.request import JobRequest
from rayplat.cluster.jobs.settling import settle, shown
from rayplat.cluster.jobs.storage import JobFiles
from rayplat.cluster.jobs.submission import job_environment, resume, stop, submit
from rayplat.cluster.processes import ours
from rayplat.cluster.session import down, up
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import process_environment

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small working folder, as a user's own project would be: the job scripts and a project."""
    made = tmp_path_factory.mktemp("work")
    (made / "jobs").mkdir()
    for name in ("job.py", "ingest.py"):
        (made / "jobs" / name).write_text((ROOT / "jobs" / name).read_text())
    (made / "small.py").write_text(
        "import pyarrow as pa\n"
        "import rayplat as rp\n"
        "small = rp.Project('small', owner='ops@example.com')\n"
        "def read():\n"
        "    return pa.table({'code': ['a', 'b', 'c'], 'size': [1.0, 2.0, 3.0]})\n"
        "small.table('raw.codes', key='code', columns={'code': 'string', 'size': 'float64'},\n"
        "            source=rp.Reference(read))\n"
    )
    return made


def _submit(settings: Settings, folder: Path, *command: str) -> str:
    request = JobRequest(command=command, folder=folder, user="ada", team="risk", project="small")
    return submit(settings, request, check=check).job.submission_id


def _followed(settings: Settings, job_id: str) -> tuple[str, JobRecord]:
    parts, whole = log_of(settings, job_id), ""
    while True:
        try:
            whole += next(parts)
        except StopIteration as end:
            return whole, end.value


def test_a_job_runs_to_success_and_its_log_is_followed_and_kept(ray_session: Settings, folder: Path) -> None:
    job_id = _submit(ray_session, folder, "python", "jobs/ingest.py", "--project", "small.py")
    log, job = _followed(ray_session, job_id)
    assert job.status == JobState.SUCCEEDED, log
    assert "raw.codes" in log
    assert (job.user, job.team, job.exit_code, job.settled) == ("ada", "risk", 0, True)
    assert "raw.codes" in JobFiles(ray_session).read_log(job.log)
    assert stop(ray_session, job_id) == (False, job)


def test_a_job_that_fails_says_why_and_a_stopped_one_is_stopped(ray_session: Settings, folder: Path) -> None:
    failing = _submit(ray_session, folder, "python", "-c", "raise SystemExit(3)")
    sleeping = _submit(ray_session, folder, "python", "-c", "import time; time.sleep(600)")
    _, failed = _followed(ray_session, failing)
    assert (failed.status, failed.exit_code) == (JobState.FAILED, 3)
    assert "exit code" in failed.message
    stopped, job = stop(ray_session, sleeping, wait_s=30)
    assert (stopped, job.status) == (True, JobState.STOPPED)


def test_a_plain_ray_job_submit_tells_the_history_itself(ray_session: Settings, folder: Path) -> None:
    ray = Path(sys.executable).parent / "ray"
    command = ["python", "jobs/ingest.py", "--project", "small.py"]
    done = subprocess.run(
        [str(ray), "job", "submit", "--submission-id", "plain_1", "--working-dir", ".", "--", *command],
        cwd=folder,
        env={**process_environment(), **job_environment(ray_session)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with closing(JobHistory(ray_session)) as history:
        job = history.get("plain_1")  # nobody has looked at the cluster in between
    assert (job.status, job.command, job.project) == (JobState.SUCCEEDED, " ".join(command), "small")
    assert job.user == ray_session.user
    files = JobFiles(ray_session)
    assert files.read_package(job.package).has("small.py")
    assert "raw.codes" in files.read_log(job.log)


@pytest.mark.slow
def test_a_job_of_a_killed_head_is_lost_and_resumed_on_the_next(
    ray_session: Settings, folder: Path, tmp_path: Path
) -> None:
    settings = Settings.model_validate({"home": tmp_path, "ray": {"cpus": 1, "object_store_mib": 128}})
    counter = tmp_path / "steps"
    # The job's durable state is a file: it goes on where it was.
    (folder / "steps.py").write_text(
        "import pathlib, time\n"
        f"kept = pathlib.Path({str(counter)!r})\n"
        "done = int(kept.read_text()) if kept.exists() else 0\n"
        "print('begins at', done, flush=True)\n"
        "while done < 3 or (done == 3 and not kept.with_suffix('.on').exists()):\n"
        "    done = min(done + 1, 3); kept.write_text(str(done)); time.sleep(0.2)\n"
        "print('done', done)\n"
    )
    try:
        up(settings)
        job_id = _submit(settings, folder, "python", "steps.py")
        _wait(lambda: counter.exists() and counter.read_text() == "3")
        store = read_head(settings)
        assert store is not None
        psutil.Process(store.pid).kill()
        # The control store is started again. Until Ray's jobs API has found it, nobody can be asked about the
        # job, and it is not told as running or lost.
        seen = [_status(settings, job_id)]
        deadline = time.monotonic() + 30
        while seen[-1] == JobState.UNKNOWN and time.monotonic() < deadline:
            seen.append(_status(settings, job_id))
        assert seen[-1] == JobState.RUNNING, seen
        for process in ours(settings):
            with contextlib.suppress(psutil.Error):
                process.kill()
        assert _status(settings, job_id) == JobState.LOST
        with closing(JobHistory(settings)) as history:
            kept = history.get(job_id).log
        assert "begins at 0" in JobFiles(settings).read_log(kept)
        up(settings)
        assert _status(settings, job_id) == JobState.LOST
        counter.with_suffix(".on").touch()
        again = resume(settings, job_id).job
        log, job = _followed(settings, again.submission_id)
        assert (job.status, job.resumed_from) == (JobState.SUCCEEDED, job_id), (job.message, log)
        assert "begins at 3" in log
    finally:
        down(settings)


def _wait(until: object, within_s: float = 60.0) -> None:
    assert callable(until)
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _status(settings: Settings, job_id: str) -> JobState:
    with closing(JobHistory(settings)) as history:
        view = settle(settings, history)
        return shown(history.get(job_id), view).status

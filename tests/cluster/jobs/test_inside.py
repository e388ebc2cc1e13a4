"""A job's own word, told by a real process that has the environment of a Ray job."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rayplat.cluster.jobs.history import JobHistory
from rayplat.cluster.jobs.inside import Inside, this_job
from rayplat.cluster.jobs.record import JobState
from rayplat.cluster.jobs.storage import JobFiles
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import process_environment

_CODE = """
import sys
from rayplat.cluster.jobs.inside import reported
from rayplat.core.errors import UserError
from rayplat.core.settings_sources import load_settings
with reported(load_settings(), ["jobs/x.py", "--project", "a b"], "examples/small"):
    print("works", flush=True)
    {end}
"""


def _environment(**metadata: str) -> dict[str, str]:
    told = {"metadata": metadata, "runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}}
    return {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(told)}


def _run(tmp_path: Path, end: str, more: dict[str, str]) -> tuple[subprocess.CompletedProcess[Any], Settings]:
    settings = Settings.model_validate({"home": tmp_path / "home", "user": "cluster"})
    work, log = tmp_path / "work", tmp_path / "session_7" / "logs" / "job-driver-j.log"
    for folder in (work, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    (work / "small.py").write_text("small = 1\n")
    with log.open("a") as out:
        done = subprocess.run(
            [sys.executable, "-c", _CODE.format(end=end)],
            cwd=work,
            env={
                **process_environment(),
                "RAYPLAT_HOME": str(settings.home),
                "RAYPLAT_USER": "cluster",
                **more,
            },
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    return done, settings


@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        ("x = 1", JobState.SUCCEEDED, ""),
        ("sys.exit(0)", JobState.SUCCEEDED, ""),
        ("sys.exit(4)", JobState.FAILED, "SystemExit: 4"),
        ("raise UserError('no rows', 'send some')", JobState.FAILED, "UserError: no rows"),
    ],
)
def test_a_job_tells_how_it_ended(tmp_path: Path, end: str, status: JobState, message: str) -> None:
    environment = _environment(job_submission_id="j", **{"rayplat.purpose": "trial"})
    _, settings = _run(tmp_path, end, environment)
    with closing(JobHistory(settings)) as history:
        job = history.get("j")
    assert (job.status, job.message, job.settled) == (status, message, False)
    assert (job.user, job.project, job.purpose) == ("cluster", "small", "trial")
    assert job.command == "python jobs/x.py --project 'a b'"
    assert job.session == "session_7"
    assert job.started_at is not None
    assert job.ended_at is not None
    files = JobFiles(settings)
    assert files.read_log(job.log) == "works\n"
    assert [f.path for f in files.read_package(job.package).files] == ["small.py"]


def test_outside_of_a_job_nothing_is_told(tmp_path: Path) -> None:
    done, settings = _run(tmp_path, "x = 1", {})
    assert done.returncode == 0
    assert not settings.home.exists()


def test_a_history_that_does_not_answer_stops_no_job(tmp_path: Path) -> None:
    away = {"RAYPLAT_DATABASE": "postgresql+psycopg://nobody@127.0.0.1:9/none?connect_timeout=2"}
    done, _ = _run(tmp_path, "x = 1", {**_environment(job_submission_id="j"), **away})
    assert done.returncode == 0
    assert "the history of jobs was not told: the database" in done.stderr


@pytest.mark.parametrize("told", ["", "no json", "[]", "{}", '{"metadata": null}', '{"metadata": {}}'])
def test_what_is_no_submitted_job(told: str) -> None:
    assert this_job({"RAY_JOB_CONFIG_JSON_ENV_VAR": told}) is None


def test_a_submitted_job_knows_itself() -> None:
    assert this_job(_environment(job_submission_id="j")) == Inside("j", {"job_submission_id": "j"}, True)

"""Jobs are submitted for real to a token-protected cluster, followed to their end, good and bad."""

import subprocess
import sys
from pathlib import Path

import pytest

from rayplat.cluster.jobs import follow, get_job, job_environment, list_jobs, stop, submit
from rayplat.core.errors import NotFoundError
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import process_environment

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]


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


def test_a_job_runs_to_success_and_its_log_is_followed(ray_session: Settings, folder: Path) -> None:
    job_id = submit(ray_session, ["python", "jobs/ingest.py", "--project", "small.py"], str(folder))
    log = "".join(follow(ray_session, job_id))
    job = get_job(ray_session, job_id)
    assert job.status == "SUCCEEDED", log
    assert "raw.codes" in log
    assert job_id in {j.id for j in list_jobs(ray_session)}
    assert stop(ray_session, job_id) is False


def test_a_job_that_fails_says_why_with_its_exit_code(ray_session: Settings, folder: Path) -> None:
    job_id = submit(ray_session, ["python", "jobs/ingest.py", "--project", "nowhere"], str(folder))
    log = "".join(follow(ray_session, job_id))
    job = get_job(ray_session, job_id)
    assert job.status == "FAILED"
    assert "nowhere" in log
    assert "exit code" in job.message


def test_a_plain_ray_job_submit_is_let_in(ray_session: Settings, folder: Path) -> None:
    ray = Path(sys.executable).parent / "ray"
    done = subprocess.run(
        [str(ray), "job", "submit", "--working-dir", ".", "--", "python", "-c", "print(6 * 7)"],
        cwd=folder,
        env={**process_environment(), **job_environment(ray_session)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "42" in done.stdout


def test_an_unknown_job_is_not_found(ray_session: Settings) -> None:
    with pytest.raises(NotFoundError, match="raysubmit_none"):
        get_job(ray_session, "raysubmit_none")

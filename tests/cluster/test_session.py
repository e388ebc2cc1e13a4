"""The local Ray: token-protected, on loopback only, found again, and gone after `down`."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rayplat.cluster.head import SUPERVISOR
from rayplat.cluster.processes import ours, stop_process
from rayplat.cluster.session import connect, down, up
from rayplat.cluster.status import status
from rayplat.core.errors import ConflictError, UnavailableError
from rayplat.core.settings import Settings

pytestmark = pytest.mark.ray


def test_nothing_listens_beyond_loopback(ray_session: Settings) -> None:
    listening = {
        connection.laddr.ip
        for process in ours(ray_session)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_up_finds_the_running_ray(ray_session: Settings) -> None:
    again = up(ray_session)
    assert again.started is False
    assert status(ray_session).address == again.address


def test_without_the_token_nobody_is_let_in(ray_session: Settings, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    address = up(ray_session).dashboard
    code = (
        "from ray.job_submission import JobSubmissionClient\n"
        f"print(len(JobSubmissionClient({address!r}).list_jobs()))"
    )
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(wrong), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "auth" in done.stderr.lower()


def test_a_process_that_imported_ray_before_is_let_in(ray_session: Settings) -> None:
    code = (
        "import ray\n"
        "from rayplat.cluster.session import connect\n"
        "from rayplat.core.settings_sources import load_settings\n"
        f"connect(load_settings({{'home': {str(ray_session.home)!r}}}))\n"
        "print(int(ray.cluster_resources()['CPU']))"
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(ray_session.home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == "4", done.stderr


def test_a_platform_without_ray_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="rayplat up"):
        connect(Settings(home=tmp_path))


def test_up_after_a_crash_starts_anew_and_down_ends_every_process(
    ray_session: Settings, tmp_path: Path
) -> None:
    settings = Settings.model_validate({"home": tmp_path, "ray": {"cpus": 1, "object_store_mib": 128}})
    try:
        first = up(settings)
        assert stop_process(settings, SUPERVISOR)  # it would start the store again
        store = next(p for p in ours(settings) if p.name() == "gcs_server")
        store.kill()
        store.wait(timeout=10)
        second = up(settings)
        assert second.started is True
        assert second.address != first.address
        with pytest.raises(ConflictError, match="another process"):
            connect(settings)
    finally:
        ended = down(settings)
    assert ended
    assert ours(settings) == []

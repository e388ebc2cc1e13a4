"""`rayplat submit` and `rayplat jobs` from words to the cluster and back, over a real socket."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Ran
from tests.cluster.jobs.fakes import FakeDashboard

Run = Callable[..., Ran]


@pytest.fixture
def dashboard() -> Iterator[FakeDashboard]:
    with FakeDashboard() as fake:
        yield fake


@pytest.fixture
def ask(rayplat: Run, dashboard: FakeDashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`rayplat` in a folder with a job and a project, and a cluster."""
    # What an earlier test of this process told its own Ray, such as another cluster's token.
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "train.py").write_text("print(1)\n")
    (tmp_path / "small.py").write_text("small = 1\n")
    (tmp_path / "teams.yaml").write_text("teams:\n  risk: {members: [ada], quota: {CPU: 8}}\n")
    (tmp_path / "rayplat.toml").write_text(
        f"user = 'ada'\njobs.packages = 'none'\n[ray]\naddress = '{dashboard.address}'\nspec = 'teams.yaml'\n"
    )
    return rayplat


def _command(dashboard: FakeDashboard) -> str:
    (job,) = dashboard.jobs.values()
    return str(job["entrypoint"])


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["train", "--project", "small.py", "--detach"], "python jobs/train.py --project small.py"),
        (["--detach", "train", "--lr", "0.1", "-x"], "python jobs/train.py --lr 0.1 -x"),
        (
            ["train", "--project", "small", "--detach", "--", "--set", "log.level=INFO"],
            "python jobs/train.py --project small --set log.level=INFO",
        ),
        (["jobs/train.py", "a b", "--detach"], "python jobs/train.py 'a b'"),
        (["--detach", "--purpose", "trial", "--", "ls", "--detach", "-la"], "ls --detach -la"),
    ],
)
def test_words_become_a_command(ask: Run, dashboard: FakeDashboard, words: list[str], command: str) -> None:
    ran = ask("submit", *words, "--output", "json") if "--" not in words else ask("submit", *words)
    assert ran.code == 0, ran.err
    assert _command(dashboard) == command


def test_a_job_is_told_as_json_and_is_in_the_list(ask: Run, dashboard: FakeDashboard) -> None:
    sent = ask(
        "submit", "train", "--project", "small.py", "--cpus", "4", "--purpose", "t", "--detach", "-o", "json"
    )
    job = sent.data
    assert (job["status"], job["user"], job["team"], job["project"]) == ("PENDING", "ada", "risk", "small")
    dashboard.finish(job["id"], "SUCCEEDED", 0)
    (listed,) = ask("jobs", "list", "-o", "json").data
    assert (listed["id"], listed["status"], listed["cost"]) == (job["id"], "SUCCEEDED", None)
    assert ask("jobs", "show", job["id"], "-o", "json").data["needs"]["cpus"] == 4
    logs = ask("jobs", "logs", job["id"])
    assert logs.code == 0
    assert f"the log of {job['id']}" in logs.out
    assert ask("jobs", "list", "--team", "ops", "-o", "json").data == []


def test_a_team_s_quota_is_kept_at_the_door(ask: Run, dashboard: FakeDashboard) -> None:
    first = ask("submit", "train", "--cpus", "5", "--detach", "-o", "json").data["id"]
    refused = ask("submit", "train", "--cpus", "4", "--detach", "-o", "json")
    assert (refused.code, refused.error["kind"]) == (2, "RefusedError")
    assert "may hold 8 CPU at a time: its open jobs declare 5" in refused.error["what"]
    assert ask("submit", "train", "--team", "ops", "--detach").code == 2
    assert list(dashboard.jobs) == [first]
    dashboard.finish(first, "FAILED", 1)
    assert ask("submit", "train", "--cpus", "4", "--detach").code == 0


def test_who_waits_in_line_is_let_in_when_a_job_of_the_team_has_ended(
    ask: Run, dashboard: FakeDashboard
) -> None:
    first = ask("submit", "train", "--cpus", "5", "--detach", "-o", "json").data["id"]
    timer = threading.Timer(1.0, dashboard.finish, (first, "SUCCEEDED", 0))
    timer.start()
    begin = time.monotonic()
    waited = ask("submit", "train", "--cpus", "4", "--wait", "--detach")
    timer.join()
    assert waited.code == 0, waited.err
    assert "waits: over a quota: team risk may hold 8 CPU at a time" in waited.err
    assert time.monotonic() - begin >= 1.0
    assert len(dashboard.jobs) == 2
    # What is more than the whole quota would wait for ever.
    assert ask("submit", "train", "--cpus", "9", "--wait", "--detach").code == 2


def test_stop_and_resume(ask: Run, dashboard: FakeDashboard) -> None:
    job = ask("submit", "train", "--detach").out.strip()
    assert "stopped" in ask("jobs", "stop", job).out
    failed = ask("jobs", "logs", job)
    assert failed.code == 1
    assert f"rayplat jobs resume {job}" in failed.err
    again = ask("jobs", "resume", job, "--detach", "-o", "json").data
    assert (again["resumed_from"], again["command"]) == (job, "python jobs/train.py")
    assert ask("jobs", "resume", again["id"], "--detach").code == 4


def test_faults_are_told_at_the_door(ask: Run, dashboard: FakeDashboard) -> None:
    assert ask("submit", "trian", "--detach").code == 3
    assert ask("submit").code == 2
    assert ask("submit", "train", "--project", "none.py", "--detach").code == 2
    assert ask("submit", "train", "--working-dir", "none", "--detach").code == 2
    dashboard.token = "x"
    ran = ask("submit", "train", "--detach", "-o", "json")
    assert (ran.code, ran.error["kind"]) == (5, "UnavailableError")
    assert "wants a token" in ran.error["what"]
    assert dashboard.jobs == {}

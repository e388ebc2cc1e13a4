"""A job that came by plain Ray asks the budgets when it connects, told by a real process."""

import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rayplat.cluster.jobs.history import JobHistory
from rayplat.cluster.jobs.record import JobRecord
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import process_environment
from rayplat.cost.accounts import Accounts, sources_of
from tests.cost.fakes import FakeFacts, FakeJobs, node, use

_SPEC = """
groups: {head: {kind: head}, cpu: {kind: cpu, cpus: 4, max: 2}}
prices: {own: {head: {on_demand: 1.0}, cpu: {on_demand: 1.0}}}
teams: {vision: {members: [ada]}, text: {members: [bob]}}
budgets: [{scope: team, name: vision, limit_usd: 1, per: total}]
"""
_ASK = """
from rayplat.cluster.jobs.admission import ask_for_this_job
from rayplat.cluster.session import connect
from rayplat.core.errors import RayplatError
from rayplat.core.settings_sources import load_settings
try:
    {call}(load_settings())
    print("let in")
except RayplatError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A platform whose team vision has spent two dollars of one; no Ray runs, at an address of nobody."""
    spec = tmp_path / "platform.yaml"
    spec.write_text(_SPEC)
    found = Settings.model_validate(
        {"home": tmp_path / "home", "ray": {"spec": str(spec), "address": "127.0.0.1:9"}}
    )
    old = JobRecord(submission_id="old", team="vision", submitted_at=datetime(2026, 3, 2, tzinfo=UTC))
    facts = FakeFacts([node("n", 0, 2, "cpu")], [use("n", "old", 0, 2, CPU=4.0)])
    sources = sources_of(found)
    sources = type(sources)(facts, FakeJobs([old]), sources.spec)
    with Accounts(found, sources) as accounts:
        accounts.settle(datetime(2026, 3, 2, 12, tzinfo=UTC))
    return found


def _asked(settings: Settings, call: str, team: str, submission_id: str = "raysubmit_new") -> str:
    metadata = {"job_submission_id": submission_id, "rayplat.team": team}
    done = subprocess.run(
        [sys.executable, "-c", _ASK.format(call=call)],
        env={
            **process_environment(),
            "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"metadata": metadata}),
            "RAYPLAT_HOME": str(settings.home),
            "RAYPLAT_RAY__SPEC": settings.ray.spec,
            "RAYPLAT_RAY__ADDRESS": settings.ray.address,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_team_without_money_is_refused_before_ray_is_asked(settings: Settings) -> None:
    said = _asked(settings, "connect", "vision")
    assert said.startswith("RefusedError the budget is spent: team vision has spent $2.00")
    assert "limit_usd" in said


def test_what_the_door_let_in_is_not_asked_again(settings: Settings) -> None:
    let_in = JobRecord(
        submission_id="raysubmit_in", team="vision", runtime_digest="d", submitted_at=datetime.now(UTC)
    )
    with closing(JobHistory(settings)) as history:
        history.add(let_in)
    assert _asked(settings, "ask_for_this_job", "vision", "raysubmit_in") == "let in\n"


def test_another_team_is_let_in(settings: Settings) -> None:
    assert _asked(settings, "ask_for_this_job", "text") == "let in\n"

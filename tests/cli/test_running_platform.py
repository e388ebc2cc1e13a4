"""`status`, `logs` and `exec` on a platform that runs."""

import json
from collections.abc import Callable

import pytest

from rayplat.core.settings import Settings
from tests.cli.conftest import Ran

pytestmark = pytest.mark.ray


def test_the_commands_of_the_command_line(ray_session: Settings, rayplat: Callable[..., Ran]) -> None:
    home = ["--home", str(ray_session.home)]
    found = json.loads(rayplat(*home, "status", "--output", "json").out)
    assert found["groups"][0]["group"] == "head"
    assert found["cost_usd"] is None or found["cost_usd"] >= 0
    assert "head" in rayplat(*home, "status").out
    assert "supervisor" in rayplat(*home, "logs").out
    assert "watching" in rayplat(*home, "logs", "supervisor").out
    assert rayplat(*home, "logs", "moon").code == 3
    assert rayplat(*home, "exec", "--", "python", "-c", "raise SystemExit(5)").code == 5

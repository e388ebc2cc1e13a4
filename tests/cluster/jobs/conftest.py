from collections.abc import Iterator
from pathlib import Path

import pytest

from rayplat.core.settings import Settings
from tests.cluster.jobs.fakes import FakeDashboard
from tests.servers import moto_server, postgres_url

__all__ = ["moto_server", "postgres_url"]


@pytest.fixture
def dashboard() -> Iterator[FakeDashboard]:
    with FakeDashboard() as fake:
        yield fake


@pytest.fixture
def settings(tmp_path: Path, dashboard: FakeDashboard) -> Settings:
    """A laptop's settings that name the fake cluster."""
    return Settings.model_validate(
        {
            "home": tmp_path / "home",
            "user": "ada",
            "ray": {"address": dashboard.address, "spec": str(tmp_path / "none.yaml")},
            "jobs": {"packages": "none"},
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a job script and a project."""
    made = tmp_path / "work"
    (made / "jobs").mkdir(parents=True)
    (made / "jobs" / "train.py").write_text("print('trains')\n")
    (made / "jobs" / "job.py").write_text("")
    (made / "small.py").write_text("small = 1\n")
    return made

"""`up`, `down`, `status` and `jobs` on a platform that does not run: they say so, and start nothing."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Ran

Run = Callable[..., Ran]


def test_status_of_nothing(rayplat: Run, tmp_path: Path) -> None:
    ran = rayplat("--home", str(tmp_path), "status", "--output", "json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert (found["address"], found["processes"]) == (None, [])


def test_down_of_nothing_keeps_what_is_on_disk(rayplat: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("here")
    ran = rayplat("--home", str(tmp_path), "down", "--output", "json")
    assert (ran.code, json.loads(ran.out)) == (0, {"ended": []})
    assert (tmp_path / "kept").read_text() == "here"


def test_jobs_need_a_platform_that_runs(rayplat: Run, tmp_path: Path) -> None:
    for words in (["jobs", "env"], ["jobs", "submit", "--", "python", "x.py"], ["submit", "--", "ls"]):
        ran = rayplat("--home", str(tmp_path), *words)
        assert ran.code == 5, words
        assert "rayplat up" in ran.err


def test_the_history_of_jobs_needs_none(rayplat: Run, tmp_path: Path) -> None:
    listed = rayplat("--home", str(tmp_path), "jobs", "list", "--output", "json")
    assert (listed.code, json.loads(listed.out)) == (0, [])
    assert rayplat("--home", str(tmp_path), "jobs", "logs", "raysubmit_1").code == 3


def test_a_project_without_a_model_cannot_loop(rayplat: Run, tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(
        "import rayplat as rp\nbare = rp.Project('bare', owner='ops@example.com')\n"
    )
    ran = rayplat("--home", str(tmp_path), "run", str(tmp_path / "bare.py"))
    assert ran.code == 2
    assert "declares no model" in ran.err

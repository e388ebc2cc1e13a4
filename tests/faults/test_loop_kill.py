"""The loop is killed in every step, and run again: nothing lost, nothing doubled, one model version."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psutil
import pytest

from rayplat.cluster.processes import ours
from rayplat.cluster.session import down
from rayplat.core.project.load import load_project
from rayplat.core.settings import Settings
from rayplat.wiring import build_platform

ROOT = Path(__file__).parents[2]
PROJECT = "examples/waterflow"
STEPS = 8
_DEADLINE_S = 180.0


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    made = Settings(home=tmp_path / "home")
    yield made
    down(made)


def start(settings: Settings) -> subprocess.Popen[str]:
    """`rayplat run` as its user starts it, in a process of its own."""
    rayplat = str(Path(sys.executable).parent / "rayplat")
    command = [rayplat, "--home", str(settings.home), "--set", "serve.port=0"]
    return subprocess.Popen(
        [*command, "run", PROJECT], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_in_step(process: subprocess.Popen[str], step: int, delay_s: float) -> str:
    """Wait until the step begins, then a little, and kill -9. Returns the output so far."""
    output = []
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line)
        if line.startswith(f"[{step}/{STEPS}]"):
            time.sleep(delay_s)
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait(timeout=_DEADLINE_S)
    process.stdout.close()
    return "".join(output)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=_DEADLINE_S)
    assert process.returncode == 0, output
    return output


def check(settings: Settings) -> None:
    """Every event is there once, by key against the source; one version; one prediction a question."""
    platform = build_platform(settings)
    project = load_project(str(ROOT / PROJECT))
    replay = project.replays[0]
    for table in project.tables:
        told = pl.DataFrame(table.source.replay())  # type: ignore[union-attr]
        until = replay.history_until if table.name == "water.readings" else None
        held = pl.DataFrame(platform.lake.table(table.name).read()).select(table.key)
        assert held.is_duplicated().sum() == 0, table.name
        expected = told.filter(pl.col(str(table.told_by)) < replay.history_until) if until else told
        missing = expected.select(table.key).join(held, on=table.key, how="anti")
        beyond = held.join(told.select(table.key), on=table.key, how="anti")
        assert beyond.height == 0, table.name
        assert missing.filter(pl.col("hour") < replay.live_until).height == 0, table.name
    assert len(platform.registry.versions("rising")) == 1
    log = pl.DataFrame(platform.lake.table("serving.predictions").read())
    questions = pl.DataFrame(platform.lake.table("water.readings").read()).filter(
        pl.col("hour").is_between(replay.history_until, replay.live_until, closed="left")
    )
    assert log.height == questions.height
    assert log["request"].n_unique() == log.height
    assert platform.audit.verify() > 0


@pytest.mark.parametrize("whole", [False, True], ids=["driver", "platform"])
def test_killed_in_every_step_the_loop_ends_as_if_undisturbed(settings: Settings, whole: bool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    steps = range(1, STEPS + 1) if not whole else (2, 4, 6)
    for step in steps:
        process = start(settings)
        output = kill_in_step(process, step, chance.uniform(0.0, 1.5))
        assert f"[{step}/{STEPS}]" in output, output
        if whole:
            for one in ours(settings):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
    output = finish(start(settings))
    assert "passport of prd_" in output
    check(settings)
    page = (settings.home / "waterflow.html").read_text()
    for part in (
        "What came in",
        "Calibration",
        "Drift against",
        "Freshness",
        "Passport",
        "water_readings",
    ):
        assert part in page, part
    assert ours(settings)
    down(settings)
    assert ours(settings) == []

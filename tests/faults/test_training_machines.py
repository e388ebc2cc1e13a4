"""The machine of the controller is lost, or one that has most of the workers: nothing is paid twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rayplat.train.worker import RunResult, checkpoints_of
from tests.faults.test_training_kill import (
    AN_EPOCH,
    STEPS,
    check,
    kill,
    lines_of,
    run,
    task_in,
    undisturbed,  # noqa: F401  # a fixture
)
from tests.train.elastic.processes import Group

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0


def drive(folder: Path) -> subprocess.Popen[bytes]:
    """A controller and its two workers, in processes of their own."""
    code = (
        "import sys; from pathlib import Path; from tests.faults.test_training_machines import drive_here;"
        " drive_here(Path(sys.argv[1]))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT)


def drive_here(folder: Path) -> None:
    with Group(task_in(folder), 2, 2, room=2) as group:
        group.wait()


def wait_for(folder: Path, step: int, driver: subprocess.Popen[bytes]) -> None:
    while not any(line.step >= step for line in lines_of(folder)):  # the test's own timeout ends it
        assert driver.poll() is None, "the driver ended by itself"
        time.sleep(0.01)


@pytest.mark.parametrize("seed", [5, *(pytest.param(s, marks=pytest.mark.slow) for s in (6, 7, 8))])
def test_a_lost_controller_takes_its_workers_along_and_the_next_one_goes_on(
    tmp_path,
    undisturbed: RunResult,  # noqa: F811
    seed,
):
    print("seed", seed)
    step = random.Random(seed).randrange(AN_EPOCH + 2, STEPS - 2)
    driver = drive(tmp_path)
    try:
        wait_for(tmp_path, step, driver)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    workers = {line.pid for line in lines_of(tmp_path)}
    assert len(workers) == 2
    end = time.monotonic() + WITHIN_S
    while any(psutil.pid_exists(pid) for pid in workers):
        assert time.monotonic() < end, "workers outlive their controller"
        time.sleep(0.05)
    saved = checkpoints_of(f"file://{tmp_path}/run").latest()
    assert saved is not None
    reached = max(line.step for line in lines_of(tmp_path))
    before = len(lines_of(tmp_path))
    drive_here(tmp_path)
    again = [line.step for line in lines_of(tmp_path)[before:]]
    assert min(again) == saved.step
    assert reached - saved.step <= AN_EPOCH  # a checkpoint after each epoch, where none is declared
    check(tmp_path, undisturbed)


@pytest.mark.parametrize("seed", [9, *(pytest.param(s, marks=pytest.mark.slow) for s in (10, 11, 12))])
def test_a_node_with_all_workers_but_one_is_lost_and_no_step_with_it(
    tmp_path,
    undisturbed: RunResult,  # noqa: F811
    seed,
):
    print("seed", seed)
    chance = random.Random(seed)
    step, stays = chance.randrange(2, STEPS - 8), chance.randrange(3)

    def lose(group: Group) -> None:
        for slot in {0, 1, 2} - {stays}:
            kill(slot)(group)

    outcome = run(tmp_path, [(step, lose)], most=3)
    assert outcome.losses == 2
    assert outcome.worlds[0] == 3
    steps = {line.step for line in lines_of(tmp_path)}
    assert steps == set(range(STEPS))
    check(tmp_path, undisturbed)

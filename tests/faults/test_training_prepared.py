"""Rows are prepared on other nodes while a group is resized and killed: the same samples and losses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rayplat.train.worker import RunResult, read_result
from tests.faults.test_training_kill import (
    EPOCHS,
    ROWS,
    STEPS,
    TOLERANCE,
    Act,
    away,
    check,
    hold,
    kill,
    losses,
    room,
    samples,
    task_in,
    wait_for_world,
)
from tests.train.elastic.processes import Group

ROOT = Path(__file__).parents[2]


def prepared_in(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.json").write_text(json.dumps({"prepare": True}))


def rows_prepared(folder: Path) -> list[tuple[int, str, int]]:
    """(process, node, rows) of each call of the preparation."""
    lines = [one for path in folder.glob("prepared-*.txt") for one in path.read_text().splitlines()]
    return [(int(pid), node, int(rows)) for pid, node, rows in map(str.split, lines)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> RunResult:
    """One worker that prepares all of its rows itself."""
    folder = tmp_path_factory.mktemp("undisturbed")
    prepared_in(folder)
    with Group(task_in(folder), 1, 1, room=1) as group:
        group.wait()
    assert sum(rows for _, _, rows in rows_prepared(folder)) >= EPOCHS * ROWS
    assert set(samples(folder)) == set(range(EPOCHS))
    return read_result(f"file://{folder}/run")


def test_the_preparation_changes_what_is_learned(tmp_path, undisturbed):
    with Group(task_in(tmp_path), 1, 1, room=1) as group:
        group.wait()
    plain = losses(read_result(f"file://{tmp_path}/run"))
    assert np.abs(plain - losses(undisturbed)).max() > 100 * TOLERANCE


def test_resized_from_one_to_three_to_two_with_a_kill_rows_are_prepared_alike(tmp_path, undisturbed):
    prepared_in(tmp_path)
    acts: list[tuple[int, Act]] = [(1, room(3)), (3, kill(1)), (3, away(2)), (2, lambda group: None)]
    with Group(task_in(tmp_path), 1, 3, room=1) as group:
        for at, (world, act) in enumerate(acts):
            hold(tmp_path, 5 + 8 * at)
            wait_for_world(tmp_path, world, group)
            act(group)
        hold(tmp_path, STEPS)
        outcome = group.wait()
    assert outcome.losses == 1
    assert {1, 2, 3} <= set(outcome.worlds)
    check(tmp_path, undisturbed)


@pytest.mark.slow  # a cluster of four nodes
@pytest.mark.timeout(400)
def test_tasks_prepare_on_nodes_without_a_gpu_while_the_others_train_and_are_killed(tmp_path, undisturbed):
    prepared_in(tmp_path)
    shutil.copy(ROOT / "tests/train/projects/recorded.py", tmp_path / "recorded.py")
    driver = [sys.executable, "-m", "tests.faults.prepared_driver", str(tmp_path)]
    ran = subprocess.run(driver, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-6000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["losses"] >= 1  # on a busy machine another one may be slow for too long
    assert {1, 2, 3} <= set(told["worlds"])
    check(tmp_path, undisturbed)
    workers = {int(path.stem.removeprefix("steps-")) for path in tmp_path.glob("steps-*.txt")}
    elsewhere = [(node, rows) for pid, node, rows in rows_prepared(tmp_path) if pid not in workers]
    assert {node for node, _ in elsewhere} == {told["plain"]}
    told_of = [path.read_text().splitlines() for path in tmp_path.glob("streamed-*.txt")]
    streamed = [(int(world), int(batches)) for lines in told_of for world, batches in map(str.split, lines)]
    assert max(batches for world, batches in streamed if world == 3) > 2  # before the kill
    assert max(batches for _, batches in streamed) > 8  # and after it

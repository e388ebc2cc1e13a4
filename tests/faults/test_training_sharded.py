"""Workers that have only a part of the network each: killed, sent away and joined by others, nothing is lost
but the steps since the newest checkpoint, and those only where nobody said that he goes."""

import json
import os
import signal
import time

import pytest

from rayplat.train.worker import WorkerTask, checkpoints_of
from tests.faults.test_training_kill import (
    STEPS,
    away,
    check,
    hold,
    kill,
    lines_of,
    room,
    task_in,
    undisturbed,  # noqa: F401  # a fixture
    wait_for_step,
    wait_for_world,
)
from tests.train.elastic.processes import Group

pytestmark = pytest.mark.timeout(180)
EVERY = 6


def sharded_in(folder) -> WorkerTask:
    task = task_in(folder)
    spec = {"strategy": "fsdp2", "keep": {"every_steps": EVERY}}
    (folder / "training.json").write_text(json.dumps(spec))
    return task


def steps_of_rank_0(folder) -> list[int]:
    return [line.step for line in lines_of(folder) if line.rank == 0]


def shards_of_the_newest(folder) -> int:
    newest = max((folder / "run/checkpoints").glob("step-*[0-9]"))
    return len(list(newest.glob("shard-*")))


def test_from_two_to_one_and_back_every_step_is_taken_once(tmp_path, undisturbed):  # noqa: F811
    task = sharded_in(tmp_path)
    with Group(task, 1, 2, room=2) as group:
        wait_for_world(tmp_path, 2, group)
        wait_for_step(tmp_path, EVERY + 2, group)
        assert shards_of_the_newest(tmp_path) == 2
        hold(tmp_path, 4 * EVERY)
        away(1)(group)
        wait_for_world(tmp_path, 1, group)
        room(2)(group)
        wait_for_world(tmp_path, 2, group)
        hold(tmp_path, STEPS)
        outcome = group.wait()
    assert outcome.losses == 0
    assert outcome.worlds[-3:] == (2, 1, 2)
    # The step that was held was begun by one worker and taken by two: each other one comes once.
    taken = steps_of_rank_0(tmp_path)
    assert sorted(set(taken)) == list(range(STEPS))
    assert [step for step in set(taken) if taken.count(step) > 1] in ([], [4 * EVERY])
    check(tmp_path, undisturbed)


def test_a_killed_worker_costs_the_steps_since_the_newest_checkpoint(tmp_path, undisturbed):  # noqa: F811
    task = sharded_in(tmp_path)
    with Group(task, 2, 2, room=2, standbys=1) as group:
        wait_for_step(tmp_path, 3 * EVERY + 3, group)
        os.kill(next(line.pid for line in reversed(lines_of(tmp_path)) if line.rank == 1), signal.SIGKILL)
        outcome = group.wait()
    assert outcome.losses == 1
    taken = steps_of_rank_0(tmp_path)
    again = len(taken) - STEPS
    # The save of a step is durable some steps later on a busy machine; then the one before it is the newest.
    assert 1 <= again <= 2 * EVERY + 1
    check(tmp_path, undisturbed)


@pytest.mark.slow
def test_all_nodes_go_at_their_deadline_and_no_step_is_lost(tmp_path):
    task = sharded_in(tmp_path)
    with Group(task, 2, 2, room=2) as group:
        wait_for_step(tmp_path, 8, group)
        deadline = time.time() + 1.6
        for slot in (0, 1):
            group.processes.send_away(slot, deadline)
        time.sleep(max(0.0, deadline - time.time()))
        with group.processes.lock:
            group.processes.room = set()
            for slot in (0, 1):
                kill(slot)(group)
        reached = max(line.step for line in lines_of(tmp_path))
        found = checkpoints_of(task.run_uri).latest()
        assert found is not None
        # The step that was in work is written down and not done: nothing else is lost.
        assert 8 < reached <= found.step < STEPS
        with group.processes.lock:
            group.processes.going.clear()
            group.processes.room = {0, 1}
        outcome = group.wait()
    assert outcome.losses == 0  # they were given back before their nodes went
    assert outcome.worlds[-1] == 2
    assert sorted({line.step for line in lines_of(tmp_path)}) == list(range(STEPS))

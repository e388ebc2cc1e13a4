"""Nodes that tell when they go, and go then: training goes on until just before, and no step is lost."""

import signal
import time

from rayplat.train.worker import checkpoints_of
from tests.faults.test_training_kill import STEPS, lines_of, task_in, wait_for_step
from tests.train.elastic.processes import Group


def test_all_nodes_go_at_their_deadline_and_no_step_is_lost(tmp_path):
    task = task_in(tmp_path)
    with Group(task, 2, 2, room=2) as group:
        wait_for_step(tmp_path, 5, group)
        deadline = time.time() + 1.6
        for slot in (0, 1):
            group.processes.send_away(slot, deadline)
        time.sleep(max(0.0, deadline - time.time()))
        with group.processes.lock:
            group.processes.room = set()
            for slot in (0, 1):
                group.processes.signal(slot, signal.SIGKILL)
        before = {line.step for line in lines_of(tmp_path)}
        found = checkpoints_of(task.run_uri).latest()
        assert found is not None
        # The last step that was begun is done and saved, or it is the one that was in work.
        assert max(before) - found.step <= 0
        assert 5 < found.step < STEPS
        with group.processes.lock:
            group.processes.going.clear()
            group.processes.room = {0, 1}
        outcome = group.wait()
    # Once the last step is saved both are given back: nobody has to take them away, and none is lost.
    assert outcome.losses == 0
    assert any("they are given back" in text for text in group.told)
    after = [line.step for line in lines_of(tmp_path)]
    assert max(after) == STEPS - 1
    assert sorted(set(after)) == list(range(STEPS))

import os
import time
from dataclasses import dataclass
from typing import Any

from rayplat.core.project.space import Float, Space
from rayplat.tuning.caps import Caps
from rayplat.tuning.journal import Journal, Objective, read_study
from rayplat.tuning.pool import RayPool
from rayplat.tuning.search import RandomSearch
from rayplat.tuning.stopping import AshaStopping
from rayplat.tuning.study import Sitting

SPACE = Space(x=Float(0, 1))


@dataclass
class Shared:
    """Looks at rows that lie in shared memory."""

    rows: Any

    def __call__(self, trial):
        import ray

        rows = ray.get(self.rows)
        return (float(os.getpid()), float(rows.flags.writeable), float(rows[7]))


def curve(trial):
    for step in range(1, 10):
        trial.report(trial.params["x"] + 1 / step)
    return trial.params["x"]


def dies_once(trial):
    if trial.number == 2:
        os._exit(1)
    time.sleep(0.01)
    return trial.params["x"]


def sit(settings, name, tried, trials, objectives=("loss",), **pool):
    steps = pool.get("steps", False)
    journal = Journal(settings.database, name, "m", [Objective(o) for o in objectives])
    try:
        return Sitting(
            journal,
            lambda told: RandomSearch(SPACE),
            RayPool(tried, cpus=0.5, **pool),
            Caps(trials=trials),
            stopper=AshaStopping() if steps else None,
        ).run()
    finally:
        journal.close()


def test_workers_are_used_again_and_read_rows_from_shared_memory(ray_session):
    import numpy as np
    import ray

    tried = Shared(ray.put(np.arange(10_000)))
    assert sit(ray_session, "reuse", tried, 40, ("pid", "own_copy", "row"), ahead=4).ran == 40
    trials = read_study(ray_session.database, "reuse").trials
    assert len({t.values[0] for t in trials}) == 2
    assert {t.values[1:] for t in trials} == {(0.0, 7.0)}


def test_asha_on_workers_stops_trials_and_lets_the_best_end(ray_session):
    sit(ray_session, "asha", curve, 24, steps=True)
    trials = read_study(ray_session.database, "asha").trials
    states = [t.state for t in trials]
    assert len(trials) == 24
    assert states.count("stopped") >= 8
    assert states.count("complete") >= 1
    assert all(len(t.reports) == 9 for t in trials if t.state == "complete")


def test_a_worker_that_dies_is_replaced_and_its_trial_is_told_as_failed(ray_session):
    assert sit(ray_session, "dies", dies_once, 8).ran == 8
    states = {t.number: t.state for t in read_study(ray_session.database, "dies").trials}
    assert states == {n: "failed" if n == 2 else "complete" for n in range(8)}

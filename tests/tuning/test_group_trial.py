"""Trials that are elastic groups on Ray: they take idle workers, give them back, and come to the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict

import pytest

from rayplat.core.project.space import Float, Int, Space
from rayplat.tuning.caps import Caps
from rayplat.tuning.group_trial import Elastic, Telling
from rayplat.tuning.journal import Journal, Objective, read_study
from rayplat.tuning.model_trial import ModelTrial, for_trials
from rayplat.tuning.pool import RayPool
from rayplat.tuning.promotion import Asha
from rayplat.tuning.search import RandomSearch
from rayplat.tuning.states import KeptStates
from rayplat.tuning.study import Sitting
from rayplat.tuning.trial import Ended, Start, Trial, TrialStoppedError, carry_out
from tests.tuning.test_model_trial import PROJECT, rows

# Sums of float32 over one slice of a batch or over two differ in their last bits, as in tests of training.
TOLERANCE = 2e-6
WITHIN_S = 240.0

WATCHED = (
    PROJECT.replace("network=network,", "network=network, workers=(1, 2),")
    .replace("epochs=rp.Int(1, 4)", "epochs=rp.Int(1, 9), holds=rp.Int(0, 1), pause=rp.Float(0, 1)")
    .partition("def train(run):")[0]
    + """def train(run):
    import os, time
    from pathlib import Path
    from rayplat.train.loop import fit
    batches, boundary, given = run.epoch_batches, run._boundary, run.params
    wanted = {2: 2, 4: 1} if given.get("holds") else {}

    def watched(epoch, batch_size):
        for batch in batches(epoch, batch_size):
            while run.world_size != wanted.get(epoch, run.world_size):
                boundary(run)  # leaves when the group changes
                time.sleep(0.02)
            time.sleep(given.get("pause", 0.0))
            with open(Path(__file__).parent / f"log-{os.getpid()}", "a") as log:
                log.write(f"{given['lr']!r} {epoch} {run.live.step} {run.rank} {run.world_size}\\n")
            yield batch

    run.epoch_batches = watched
    fit(run, epochs=given["epochs"], batch_size=256, lr=given["lr"])
"""
)


@pytest.fixture
def address(tmp_path):
    (tmp_path / "clicks.py").write_text(WATCHED)
    return str(tmp_path / "clicks.py")


def steps_of(folder, lr):
    """By step, the world sizes in which a trial took it."""
    found = defaultdict(set)
    for path in folder.glob("log-*"):
        for line in path.read_text().splitlines():
            value, _, step, _, world = line.split()
            if float(value) == lr:
                found[int(step)].add(int(world))
    return dict(sorted(found.items()))


def hear(pool, ended):
    for told in pool.heard(0.2):
        if isinstance(told, Ended):
            ended[told.number] = told
        else:
            pool.answer(told.number, goes_on=True)


def until(pool, ended, *numbers):
    limit = time.monotonic() + WITHIN_S
    while not set(numbers) <= ended.keys() and time.monotonic() < limit:
        hear(pool, ended)
    assert set(numbers) <= ended.keys()


def test_epochs_that_end_before_a_stop_reaches_the_group_are_told_with_its_end():
    heard, trial = [], Trial(Start(0), lambda report: heard.append(report) is not None)
    telling = Telling(trial, "log_loss")
    for epoch in range(3):
        telling.epoch({"epoch": epoch, "of": 4, "log_loss": 0.5 - epoch / 10})
        telling.epoch({"epoch": epoch, "of": 4, "roc_auc": 0.5})  # not what the study compares
    telling.end()
    assert isinstance(telling.stopped, TrialStoppedError)
    assert (heard, trial.unasked) == ([(1, 0.5)], [])
    telling.end_anyway()
    assert trial.unasked == [(2, 0.4), (3, 0.3)]


def test_a_group_of_one_comes_to_the_same_as_no_group_and_goes_on_where_it_was_stopped(
    ray_session, address, tmp_path
):
    import ray

    cut, start = for_trials(rows()), Start(0, {"lr": 0.02, "epochs": 4}, (tmp_path / "state").as_uri())
    elastic = Elastic.open(1, 1.0, 0.0, (1, 2))
    tried, heard = ModelTrial(address, "click", ray.put(cut), ("log_loss",), elastic), []

    def stop_once(report):
        heard.append(report)
        return len(heard) > 1

    try:
        first = carry_out(tried, start, stop_once)
        ended = first if first.state == "complete" else carry_out(tried, start, stop_once)
    finally:
        elastic.close()
    undisturbed = carry_out(ModelTrial(address, "click", cut, ("log_loss",)), Start(0, start.params), bool)
    assert (ended.state, ended.error) == ("complete", "")
    assert ended.values == pytest.approx(undisturbed.values, abs=TOLERANCE)
    assert {step for step, _ in (*heard, *ended.reports)} == {1, 2, 3, 4}
    assert list(steps_of(tmp_path, 0.02)) == list(range(4 * 4))


@pytest.mark.slow
def test_a_trial_takes_what_another_one_left_and_gives_it_back_to_the_next(ray_session, address, tmp_path):
    import ray

    cut = for_trials(rows())
    elastic = Elastic.open(2, 1.0, 0.0, (1, 2))
    tried = ModelTrial(address, "click", ray.put(cut), ("log_loss", "roc_auc"), elastic)
    states = KeptStates((tmp_path / "states").as_uri())
    pool, ended = RayPool(tried, workers=2, lender=elastic, steps=True), {}
    try:
        long = {"lr": 0.01, "epochs": 6, "holds": 1}
        pool.start(Start(0, {"lr": 0.02, "epochs": 1}, states.of(0)))
        pool.start(Start(1, long, states.of(1)))
        until(pool, ended, 0)
        limit = time.monotonic() + WITHIN_S
        while 2 not in set().union(*steps_of(tmp_path, 0.01).values()):  # the first one's place was taken
            assert time.monotonic() < limit
            hear(pool, ended)
        pool.start(Start(2, {"lr": 0.03, "epochs": 1}, states.of(2)))
        until(pool, ended, 1, 2)
    finally:
        pool.close()
        elastic.close()
    assert {n: (e.state, e.error) for n, e in ended.items()} == dict.fromkeys(range(3), ("complete", ""))
    worlds = [max(found) for found in steps_of(tmp_path, 0.01).values()]
    assert worlds[0] == worlds[-1] == 1
    assert worlds == sorted(worlds[: worlds.index(2)]) + [2] * worlds.count(2) + [1] * worlds[::-1].index(2)
    assert list(steps_of(tmp_path, 0.01)) == list(range(6 * 4))  # no step is left out
    alone = ModelTrial(address, "click", cut, ("log_loss", "roc_auc"))
    undisturbed = carry_out(alone, Start(0, {**long, "holds": 0}), lambda report: True)
    assert ended[1].values == pytest.approx(undisturbed.values, abs=TOLERANCE)


SPACE = Space(lr=Float(1e-3, 1e-1, log=True), epochs=Int(5, 5), pause=Float(0.05, 0.05001))

DRIVER = """
import json, sys
from pathlib import Path
import ray
from rayplat.cluster.session import connect
from rayplat.core.settings import Settings
from tests.tuning.test_group_trial import sit

connect(Settings.model_validate(json.loads(sys.argv[1])))
sit(sys.argv[2], Path(sys.argv[3]), sys.argv[4])
"""


def sit(address, folder, database):
    """One sitting over a study of six elastic trials, at most two workers at a time."""
    import ray

    elastic = Elastic.open(2, 1.0, 0.0, (1, 2))
    tried = ModelTrial(address, "click", ray.put(for_trials(rows())), ("log_loss",), elastic)
    journal = Journal(database, "groups", "click", [Objective("log_loss")], SPACE)
    pool = RayPool(tried, workers=2, lender=elastic, steps=True)
    states = KeptStates((folder / "states").as_uri())
    search, stopper = RandomSearch(SPACE, 5), Asha(reduction=3)
    try:
        Sitting(journal, lambda told: search, pool, Caps(trials=6), stopper=stopper, states=states).run()
    finally:
        elastic.close()
        journal.close()


@pytest.mark.slow
def test_a_study_of_groups_whose_driver_is_killed_goes_on_to_the_same_values(ray_session, address, tmp_path):
    seed = int(os.environ.get("RAYPLAT_FAULT_SEED", random.randrange(2**31)))
    print(f"seed {seed}")
    draw = random.Random(seed)
    database = f"sqlite:///{tmp_path}/s.db"
    settings = ray_session.model_dump_json()
    command = [sys.executable, "-c", DRIVER, settings, address, str(tmp_path), database]

    def steps():
        return sum(len(path.read_text().splitlines()) for path in tmp_path.glob("log-*"))

    for _ in range(2):
        wanted = steps() + draw.randint(5, 40)
        driver = subprocess.Popen(command)
        while driver.poll() is None and steps() < wanted:
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    subprocess.run(command, check=True, timeout=WITHIN_S)
    study = read_study(database, "groups")
    assert len(study.trials) == 6
    assert {t.state for t in study.trials} <= {"complete", "stopped"}
    whole = [t for t in study.trials if t.state == "complete"]
    assert whole
    alone = ModelTrial(address, "click", for_trials(rows()), ("log_loss",))
    for trial in whole:
        assert [step for step, _ in trial.reports] == [1, 2, 3, 4, 5]
        undisturbed = carry_out(alone, Start(0, {**trial.params, "pause": 0.0}), lambda report: True)
        assert trial.values == pytest.approx(undisturbed.values, abs=TOLERANCE)
    assert json.loads(settings)["home"]

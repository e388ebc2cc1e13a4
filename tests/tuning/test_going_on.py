"""Trials that are stopped for now and go on from what they kept: promoted, copied, and after kills."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from rayplat.core.project.space import Float, Space
from rayplat.tuning.caps import Caps
from rayplat.tuning.journal import Journal, Objective, read_study
from rayplat.tuning.pool import LocalPool
from rayplat.tuning.population import Population
from rayplat.tuning.promotion import Asha
from rayplat.tuning.search import RandomSearch
from rayplat.tuning.states import KeptStates, load_state, save_state
from rayplat.tuning.study import Sitting
from rayplat.tuning.trial import Start, carry_out

SPACE = Space(x=Float(0, 1), lr=Float(0.01, 1, log=True))


def climbing(trial):
    """Nine steps; what was climbed so far is kept. A copy goes on from another one's height."""
    kept = trial.load()
    at, height = json.loads(kept) if kept else (0, 0.0)
    for step in range(at + 1, 10):
        height += trial.params["lr"]
        trial.report(-height, step, last=step == 9, state=json.dumps([step, height]).encode())
    return -height


def sit(tmp_path, name, tried, trials, *, stopper, search=None):
    journal = Journal(f"sqlite:///{tmp_path}/s.db", name, "m", [Objective("loss")], SPACE)
    states = KeptStates((tmp_path / "states" / name).as_uri())
    made = search or RandomSearch(SPACE)
    try:
        pool = LocalPool(tried, steps=True)
        return Sitting(
            journal, lambda told: made, pool, Caps(trials=trials), stopper=stopper, states=states
        ).run()
    finally:
        journal.close()


def test_a_promoted_trial_goes_on_from_what_it_kept_and_no_step_is_taken_twice(tmp_path):
    taken = []

    def tried(trial):
        kept = trial.load()
        for step in range(int(kept or 0) + 1, 10):
            taken.append((trial.number, step))
            trial.report(trial.params["x"], step, last=step == 9, state=str(step).encode())
        return trial.params["x"]

    sit(tmp_path, "s", tried, 27, stopper=Asha(reduction=3))
    assert len(taken) == len(set(taken))
    trials = read_study(f"sqlite:///{tmp_path}/s.db", "s").trials
    best = min(trials, key=lambda t: t.params["x"])
    assert best.state == "complete"
    assert [step for step, _ in best.reports] == list(range(1, 10))
    assert len(taken) < 27 * 9 / 2
    assert {t.state for t in trials} == {"complete", "stopped"}


def test_the_study_goes_on_under_a_higher_cap_and_promotes_who_waited(tmp_path):
    def tried(trial):
        kept = trial.load()
        for step in range(int(kept or 0) + 1, 10):
            trial.report(trial.params["x"], step, last=step == 9, state=str(step).encode())
        return trial.params["x"]

    sit(tmp_path, "s", tried, 9, stopper=Asha(reduction=3))
    sit(tmp_path, "s", tried, 27, stopper=Asha(reduction=3))
    trials = read_study(f"sqlite:///{tmp_path}/s.db", "s").trials
    assert len(trials) == 27
    ranked = sorted(trials, key=lambda t: t.params["x"])
    assert ranked[0].state == "complete"
    assert all(t.reports[-1][0] >= 3 for t in ranked[:6])


def test_a_population_climbs_higher_than_its_best_first_member_could(tmp_path):
    population = Population(SPACE, seed=2, size=6)
    sit(tmp_path, "pbt", climbing, 40, stopper=population, search=population)
    trials = read_study(f"sqlite:///{tmp_path}/s.db", "pbt").trials
    first = [t.params["lr"] for t in trials[:6]]
    best = max(-t.values[0] for t in trials if t.state == "complete")
    assert best > 9 * max(first) - 1e-9
    copies = trials[6:]
    assert copies
    assert all(t.reports[0][0] > 1 for t in copies)  # they began where another one was


DRIVER = """
import json, sys, time
from pathlib import Path
from rayplat.tuning.promotion import Asha
from rayplat.tuning.population import Population
from rayplat.tuning.caps import Caps
from rayplat.tuning.journal import Journal, Objective
from rayplat.tuning.pool import LocalPool
from rayplat.tuning.search import RandomSearch
from rayplat.tuning.states import KeptStates
from rayplat.tuning.study import Sitting
from tests.tuning.test_going_on import SPACE

folder, kind = Path(sys.argv[1]), sys.argv[2]

def tried(trial):
    kept = trial.load()
    at, height = json.loads(kept) if kept else (0, 0.0)
    for step in range(at + 1, 10):
        height += trial.params["lr"]
        with open(folder / "log", "a") as out:
            out.write(f"{trial.number} {step} {height!r}\\\\n")
        time.sleep(0.002)
        trial.report(-height, step, last=step == 9, state=json.dumps([step, height]).encode())
    return -height

search = stopper = Population(SPACE, 3, size=6) if kind == "pbt" else None
if kind == "asha":
    search, stopper = RandomSearch(SPACE, 3), Asha(reduction=3)
journal = Journal(f"sqlite:///{folder}/s.db", "killed", "m", [Objective("loss")], SPACE)
Sitting(journal, lambda told: search, LocalPool(tried, steps=True), Caps(trials=24), stopper=stopper,
        states=KeptStates((folder / "states").as_uri())).run()
"""


@pytest.mark.parametrize("kind", ["asha", "pbt"])
def test_a_driver_that_is_killed_again_and_again_ends_as_one_that_never_was(tmp_path, kind):
    seed = int(os.environ.get("RAYPLAT_FAULT_SEED", random.randrange(2**31)))
    print(f"seed {seed}")
    draw = random.Random(seed)

    def run(folder, kills):
        folder.mkdir()
        log = folder / "log"
        command = [sys.executable, "-c", DRIVER.replace("\\\\", "\\"), str(folder), kind]
        for _ in range(kills):
            before = len(log.read_text().splitlines()) if log.exists() else 0
            wanted = before + draw.randint(5, 25)
            driver = subprocess.Popen(command)
            while driver.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < wanted):
                time.sleep(0.001)
            time.sleep(draw.random() * 0.01)
            driver.send_signal(signal.SIGKILL)
            driver.wait()
        subprocess.run(command, check=True, timeout=60)
        study = read_study(f"sqlite:///{folder}/s.db", "killed")
        return study, [line.split() for line in log.read_text().splitlines()]

    whole, steps = run(tmp_path / "whole", 0)
    killed, again = run(tmp_path / "killed", 3)
    assert len(steps) == len({(n, s) for n, s, _ in steps})
    assert len(again) <= len(steps) + 3 + 9  # a kill costs the step it struck; promotions may differ by one
    # Whatever was taken twice came to the same: nothing was built on what was not kept.
    heights = {}
    for number, step, height in again:
        assert heights.setdefault((number, step), height) == height
    assert {t.state for t in killed.trials} == {"complete", "stopped"}
    assert len(killed.trials) == len(whole.trials)
    assert [t.params for t in killed.trials] == [t.params for t in whole.trials]
    best = [min(t.values[0] for t in s.trials if t.state == "complete") for s in (whole, killed)]
    assert best[0] == best[1]


def test_a_state_takes_the_place_of_the_one_before(tmp_path):
    uri = (tmp_path / "a state").as_uri()
    assert load_state(uri) is None
    save_state(uri, 1, b"one", 0.1)
    save_state(uri, 2, b"two", 0.2)
    assert load_state(uri) == (2, 0.2, b"two")
    save_state(uri, 2, b"two again", math.inf)
    assert load_state(uri) == (2, math.inf, b"two again")
    KeptStates(uri).forget()
    assert load_state(uri) is None
    assert load_state("") is None


def test_a_report_after_a_loaded_state_counts_on_from_it(tmp_path):
    uri = tmp_path.as_uri()

    def tried(trial):
        trial.load()
        trial.report(1.0 + trial.params["more"], state=b"x")
        return 1.0

    heard = []
    for more in (0.0, 0.5):
        carry_out(tried, Start(0, {"more": more}, uri), lambda report: heard.append(report) is None)
    assert heard == [(1, 1.0), (1, 1.0), (2, 1.5)]  # what was kept is told again: nobody may have heard it

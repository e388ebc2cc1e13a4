"""A study whose driver is killed goes on: no ended trial runs twice, and the caps hold."""

import os
import random
import signal
import subprocess
import sys
import time

from rayplat.tuning.journal import read_study

DRIVER = """
import sys, time
from rayplat.core.project.space import Float, Space
from rayplat.tuning.caps import Caps
from rayplat.tuning.journal import Journal, Objective
from rayplat.tuning.pool import LocalPool
from rayplat.tuning.search import RandomSearch
from rayplat.tuning.study import Sitting

database, log = sys.argv[1:]

def tried(trial):
    with open(log, "a") as out:
        out.write(f"{trial.number}\\n")
    time.sleep(0.01)
    return trial.params["x"]

space = Space(x=Float(0, 1))
journal = Journal(database, "killed", "m", [Objective("loss")])
search = lambda told: RandomSearch(space)
Sitting(journal, search, LocalPool(tried), Caps(trials=60), dollars_per_second=1.0).run()
"""


def test_a_killed_driver_doubles_no_ended_trial_and_downtime_is_free(tmp_path):
    seed = int(os.environ.get("RAYPLAT_FAULT_SEED", random.randrange(2**31)))
    print(f"seed {seed}")
    draw = random.Random(seed)
    database, log = f"sqlite:///{tmp_path}/s.db", tmp_path / "log"
    command = [sys.executable, "-c", DRIVER, database, str(log)]
    ended_at_kill, up = set(), 0.0
    for _ in range(3):
        began = time.monotonic()
        driver = subprocess.Popen(command)
        lines = len(log.read_text().splitlines()) if log.exists() else 0
        wanted = lines + draw.randint(3, 12)
        while driver.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < wanted):
            time.sleep(0.002)
        time.sleep(draw.random() * 0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        up += time.monotonic() - began
        before = {t.number for t in read_study(database, "killed").trials if t.state == "complete"}
        calls = [int(n) for n in log.read_text().splitlines()]
        ended_at_kill |= before
        assert before <= set(calls)
        time.sleep(0.5)  # nobody sits over it, so it costs nothing
    frozen = {n: calls.count(n) for n in ended_at_kill}
    began = time.monotonic()
    subprocess.run(command, check=True, timeout=60)
    up += time.monotonic() - began
    study = read_study(database, "killed")
    calls = [int(n) for n in log.read_text().splitlines()]
    assert [t.number for t in study.trials] == list(range(60))
    assert {t.state for t in study.trials} == {"complete"}
    assert {n: calls.count(n) for n in ended_at_kill} == frozen
    assert len(calls) <= 60 + 3  # only the trial that a kill interrupted runs again
    assert 0 < study.spent.seconds <= up
    assert study.spent.dollars == study.spent.seconds

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from rayplat.core.settings import Settings
from rayplat.cost.ledger import Ledger, total
from rayplat.cost.usage import micros, spans
from tests.cost.fakes import HOUR, T0, FakeJobs
from tests.cost.oracle import whole
from tests.cost.settling import BOOK, HOURS, facts

ROOT = Path(__file__).resolve().parents[2]


def test_a_settlement_that_is_killed_anywhere_is_completed_and_adds_up(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ledger = Ledger(Settings(home=tmp_path), facts(), FakeJobs())
    end = T0 + HOURS * HOUR
    killed = 0
    with closing(ledger):
        for _ in range(3):
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.cost.settling", str(tmp_path)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            time.sleep(chance.uniform(0.02, 0.4))
            os.kill(child.pid, signal.SIGKILL)
            killed += child.stdout.read() == ""
            child.stdout.close()
            child.wait()
        assert killed, "each run was over before it was killed: make it longer"
        ledger.settle(BOOK, end + HOUR)
        charges = ledger.charges(T0, end, BOOK)
    nodes, _ = spans(facts().between(T0, end))
    assert total(charges) == whole(nodes, BOOK, micros(T0), micros(end))

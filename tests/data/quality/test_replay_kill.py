"""Real kills of a real replay: whatever dies and whenever, each record is in the table once.

What is set aside, and where the replay dies, are a function of the seed, which each test prints.
"""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.quality.reconcile import reconcile
from rayplat.data.quality.replay import CRASH_POINTS, replay
from tests.data.quality.aside_world import NAME, Ingest, decode, order, orders, stored

DRIVER = Path(__file__).with_name("replay_driver.py")
KILLED, FASTER = -signal.SIGKILL, 4


def drive(settings: Settings, point: str) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-W", "error", str(DRIVER), str(settings.home), point]
    return subprocess.Popen(argv, stderr=subprocess.PIPE)


def ended(driver: "subprocess.Popen[bytes]") -> int:
    error = driver.communicate(timeout=120)[1].decode()
    assert driver.returncode in {0, KILLED, FASTER}, error
    return driver.returncode


def fill(ingest: Ingest, rng: random.Random) -> list[str]:
    """Two rounds of random records; the ids of those that are rows in the end."""
    good = []
    for turn in range(2):
        records: dict[int, list[bytes]] = {0: [], 1: []}
        for number in range(rng.randrange(20, 60)):
            amount = rng.choice([5, 500, 5000])
            junk = rng.random() < 0.1
            records[number % 2].append(b"junk" if junk else order(turn * 1000 + number, amount))
            if not junk and amount <= 1000:
                good.append(f"o{turn * 1000 + number}")
        ingest.round(records)
    return sorted(good)


def check(lake: Lakehouse, good: list[str]) -> None:
    assert sorted(name for name, _, _ in stored(lake)) == good
    proof = reconcile(lake, NAME)
    assert proof.holds, proof.discrepancies


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(lake: Lakehouse, seed: int) -> None:
    rng = random.Random(seed)
    ingest = Ingest(lake, orders())
    good = fill(ingest, rng)
    points = [*CRASH_POINTS[:3], CRASH_POINTS[3]]
    rng.shuffle(points)
    print(f"seed {seed}: killed at {points}")
    done = False
    for point in points:
        # After a replay that has committed there is nothing left to die at.
        assert ended(drive(lake.settings, point)) == (0 if done else KILLED)
        done = done or point == "after_commit"
        assert reconcile(lake, NAME).holds
    replay(lake, orders(most=1000), decode, EventBus())
    check(lake, good)


def test_replays_at_once_one_of_them_killed_and_an_ingest(lake: Lakehouse) -> None:
    seed = 9
    rng = random.Random(seed)
    print(f"seed {seed}")
    ingest = Ingest(lake, orders())
    good = fill(ingest, rng)
    drivers = [drive(lake.settings, point) for point in ("none", "after_marks", "none")]
    more = fill_more(ingest)
    print([ended(driver) for driver in drivers])
    replay(lake, orders(most=1000), decode, EventBus())
    check(lake, sorted([*good, *more]))


def fill_more(ingest: Ingest) -> list[str]:
    for number in range(5):
        ingest.round({0: [order(5000 + number), order(6000 + number, 700)]})
    return [f"o{first + number}" for number in range(5) for first in (5000, 6000)]

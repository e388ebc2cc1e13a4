"""Others are answered while somebody attacks: windows with and without the attack in turns."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from .served import fronted

SCRIPT = Path(__file__).with_name("hostile.py")
ROUNDS, SECONDS = 3, 1.5
FLOOR_S = 0.005
"""A scheduler's turn: on two cores, three processes that all work wait for one, whatever the front does."""


def begun(*words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, SCRIPT, *map(str, words)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_slowest_percent_of_others_takes_at_most_twice_as_long_under_attack():
    calm, attacked, statuses = [], [], {}
    with fronted(stalled_s=1.0) as front:
        for _ in range(ROUNDS):
            calm.append(float(begun("good", front.port, SECONDS).communicate()[0]))
            attack = begun("attack", front.port, SECONDS + 1)
            attacked.append(float(begun("good", front.port, SECONDS).communicate()[0]))
            for status, count in json.loads(attack.communicate()[0]).items():
                statuses[status] = statuses.get(status, 0) + count
    print("p99, ms: calm", calm, "attacked", attacked, statuses)
    assert set(statuses) <= {"400", "413", "422"}
    assert sum(statuses.values()) > 30
    assert median(attacked) < max(2 * median(calm), median(calm) + FLOOR_S)

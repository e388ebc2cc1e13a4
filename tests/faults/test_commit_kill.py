"""Writers that die in the middle of commits: what was acknowledged is there once, and all can be read."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.integrity import verify_table

WRITER = Path(__file__).with_name("commit_writer.py")
MANY = 100_000


def start(home: Path, first: int) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-W", "error", str(WRITER), str(home), str(first), str(MANY)]
    with said(home, first).open("wb") as log:
        return subprocess.Popen(argv, stdout=log)


def said(home: Path, first: int) -> Path:
    return home / f"{first}.log"


def acknowledged(home: Path, first: int) -> list[int]:
    lines = said(home, first).read_text().splitlines(keepends=True)
    return [int(line) for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("writers", [1, 2])
def test_what_was_acknowledged_outlives_every_kill(tmp_path: Path, writers: int) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    choose = random.Random(seed)
    told: list[int] = []
    kills = 5
    for turn in range(kills):
        firsts = [(turn * writers + number) * MANY for number in range(writers)]
        running = [start(tmp_path, first) for first in firsts]
        deadline = time.monotonic() + 60
        while not all(acknowledged(tmp_path, first) for first in firsts):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for writer in running:
            time.sleep(choose.uniform(0, 0.3))
            writer.kill()
            writer.wait()
        told += [number for first in firsts for number in acknowledged(tmp_path, first)]
    lake = Lakehouse(Settings(home=tmp_path))
    table = lake.table("raw.a")
    found = table.read()["id"].to_pylist()
    assert len(found) == len(set(found))
    assert set(told) <= set(found)
    # A commit may have landed whose writer died before it could say so: at most one for each kill.
    assert len(found) - len(told) <= kills * writers
    report = verify_table(table.base())
    assert (report.damaged, report.rows) == ((), len(found))
    table.append(table.read().slice(0, 1))
    lake.close()

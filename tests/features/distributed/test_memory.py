"""Streamed historical features need no more memory when there are more events, and keep none of it."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def limited(millions: float, way: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "tests.features.distributed.limited", str(millions), way]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_events_beyond_the_memory_are_streamed() -> None:
    # 36 bytes an event: 20 M of them are almost four times the room.
    streamed, whole = limited(20, "streamed"), limited(20, "whole")
    assert streamed.returncode == 0, streamed.stderr
    assert float(streamed.stdout) > 0
    assert whole.returncode != 0
    assert "MemoryError" in whole.stderr or "realloc" in whole.stderr


_FREEING = """
import sys, threading
from pathlib import Path
import numpy as np
from rayplat.features.distributed.memory import give_back

def held():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024

kept = []
def work():
    for mib in range(2, 32, 3):
        large = np.ones(mib << 17)
        kept.append(np.ones(3000))  # what lies above it in an arena
        del large

if sys.argv[1] == "give back":
    assert give_back()
before = held()
for _ in range(4):
    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
print(held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switch is glibc's")
def test_what_threads_free_goes_back_to_the_system() -> None:
    def kept(way: str) -> float:
        argv = [sys.executable, "-c", _FREEING, way]
        return float(subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    # 160 small arrays of 24 kB live on: under 4 MiB. Without the switch the arenas keep large ones as well.
    assert kept("give back") < 10
    assert kept("keep") > 20

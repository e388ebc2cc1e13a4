"""Streamed historical features need no more memory when there are more events."""

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

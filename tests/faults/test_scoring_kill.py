"""A scoring killed by SIGKILL: nothing is seen of it, or all of it, and the next brings each row once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.pins import Pins
from tests.serve.bulk import rows_project

DRIVER = Path(__file__).with_name("scoring_driver.py")
ROWS = 3000

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def drive(home, place):
    argv = [sys.executable, str(DRIVER), str(home), place]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("place", "seen", "then"), [("scored", 0, "made"), ("committed", ROWS, "found")])
def test_a_killed_scoring_is_done_once(tmp_path, place, seen, then):
    settings = Settings(home=tmp_path)
    rows_project.make(tmp_path, settings)
    lake = rows_project.fill(settings, files=1, rows=ROWS)
    killed = drive(tmp_path, place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert lake.table("predictions.leak").count() == seen

    again = drive(tmp_path, "never")
    assert again.stdout.split() == [then, str(ROWS)], again.stderr
    found = lake.table("predictions.leak").read(["reading"])["reading"].to_pylist()
    assert sorted(found) == list(range(ROWS))
    assert len(lake.table("predictions.leak").history()) == 1
    # What the killed process held is let go by the one that did its work.
    assert Pins(settings).held("raw.readings") == set()

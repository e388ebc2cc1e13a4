"""The control store is killed under ingest, training and serving at once: nothing is lost, requests go on."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from rayplat.cluster.processes import ours
from rayplat.core.settings import Settings

DRIVER = Path(__file__).with_name("head_loss_driver.py")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 8])
def test_the_control_store_killed_under_everything(tmp_path: Path, kills: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path / "home"), str(seed), str(kills)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert len(told["healed_s"]) == kills
    assert told["failures"] == []
    assert told["answered_after_the_last_kill"] > 0
    assert told["lost_predictions"] == 0
    assert told["committed_before_the_end"] == told["received"] > 0
    assert told["trained"] == [1]
    assert ours(Settings(home=tmp_path / "home")) == []

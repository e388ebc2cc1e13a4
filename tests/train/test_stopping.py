"""A run that is asked to stop: looked for seldom, honoured once, gone on with later."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rayplat.cluster.stop_requests import StopRequests
from rayplat.core.settings import Settings
from rayplat.train.stopping import RunStoppedError, StopWatch
from tests.train.test_trainer import Bench


def test_a_request_is_looked_for_once_a_second_and_stays(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    now = [0.0]
    watch = StopWatch(settings, "r", lambda: now[0])
    assert not watch()
    StopRequests(settings).ask("run", "r", "the budget is spent", datetime.now(UTC))
    assert not watch()
    now[0] = 1.0
    assert watch()
    error = watch.honour()
    assert "the budget is spent" in error.what
    assert StopRequests(settings).asked("run", "r") is None
    assert watch()
    watch.close()


def test_a_run_that_is_asked_stops_and_goes_on_when_it_is_called_again(
    ray_session: Settings, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    bench.ask("slow")
    runs = bench.settings.home / "warehouse/runs/click"

    def ask() -> None:
        while not (found := list(runs.glob("*/checkpoints/step-*"))):
            time.sleep(0.05)
        run = found[0].parents[1].name
        StopRequests(bench.settings).ask("run", run, "somebody asked", datetime.now(UTC))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    with pytest.raises(RunStoppedError, match="somebody asked"):
        bench.train(workers=(1, 1))
    asking.join()
    assert bench.registry.versions("click") == []
    (tmp_path / "faults" / "slow").unlink()
    outcome = bench.train(workers=(1, 1))
    assert (outcome.version, outcome.resumed) == (1, True)

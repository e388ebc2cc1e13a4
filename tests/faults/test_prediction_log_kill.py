"""`kill -9` of processes that answer and of their shippers: acknowledged is in the lakehouse once."""

import random
import subprocess
import sys
import time
from pathlib import Path

import psutil

from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.prediction_log import TABLE, PredictionLog

_ROOT = Path(__file__).parents[2]
_ANSWER = """
import sys, threading, time
from pathlib import Path
from rayplat.core.settings import Settings
from rayplat.serve.log.keeper import Keeper
from rayplat.serve.log.local import LocalLog
from tests.serve.logs import record

settings = Settings(home=Path(sys.argv[1]))
folder = settings.home / "prediction_log"
keeper = Keeper(folder, settings, every_s=0.2)
log, lock = LocalLog(folder, opened=keeper.start, file_bytes=20_000), threading.Lock()

def answer():
    while True:
        one = record()
        log.append([one])
        with lock:
            print(one.prediction_id, flush=True)
        time.sleep(0.002)

for _ in range(4):
    threading.Thread(target=answer).start()
"""


def _start(settings: Settings, out: Path) -> subprocess.Popen:
    """A process that answers, when it has acknowledged its first prediction."""
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", _ANSWER, str(settings.home)], stdout=file, cwd=_ROOT
        )
    deadline = time.monotonic() + 60
    while not out.stat().st_size:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    return process


def test_every_acknowledged_prediction_survives_kills_of_replicas_and_shippers(tmp_path):
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    chance = random.Random(seed)
    settings = Settings(home=tmp_path / "home")
    outs = [tmp_path / f"{i}.out" for i in range(4)]
    started = [_start(settings, out) for out in outs[:2]]
    for out in outs[2:]:
        time.sleep(chance.uniform(0.1, 1.0))
        victim = started.pop(chance.randrange(len(started)))
        children = psutil.Process(victim.pid).children()
        for child in children if chance.random() < 0.5 else []:
            child.kill()
        victim.kill()
        victim.wait()
        psutil.wait_procs(children, timeout=20)
        started.append(_start(settings, out))
    time.sleep(1.0)
    children = [c for one in started for c in psutil.Process(one.pid).children()]
    for one in started:
        one.kill()
        one.wait()
    _, left = psutil.wait_procs(children, timeout=20)
    assert not left, "a shipper ends with its replica"
    acknowledged = [line for out in outs for line in out.read_text().splitlines() if len(line) == 36]
    lake = Lakehouse(settings)
    shipped = lake.table(TABLE).read(["prediction_id"]).num_rows if lake.exists(TABLE) else 0
    PredictionLog(settings).drain(lake, settings, EventBus())
    found = lake.table(TABLE).read(columns=["prediction_id"])["prediction_id"].to_pylist()
    lake.close()
    print(f"{len(acknowledged)} acknowledged, {len(found)} in the table, {shipped} before the last drain")
    assert len(acknowledged) > 100
    assert shipped > 0, "shippers that are killed are started again"
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))

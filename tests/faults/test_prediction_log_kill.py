"""`kill -9` of processes that answer and of their shippers: acknowledged is in the lakehouse once.

So it is with the class `replicated` when the machine is lost with its disk.
"""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.development.mock_cluster import MockCluster
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


_REPLICATED = """
import json, sys, threading, time
from rayplat.core.settings import Settings
from rayplat.core.errors import UnavailableError
from rayplat.serve.log.keeper import Keeper
from rayplat.serve.log.places import local_folder
from rayplat.serve.log.replicated import MirroredLog
from rayplat.serve.prediction_log import open_prediction_log
from tests.serve.logs import record

settings = Settings(**json.loads(sys.argv[1]))
if settings.kafka.bootstrap:
    log = open_prediction_log(settings)
else:
    log = MirroredLog(settings, "a", keeper=Keeper(local_folder(settings), settings, every_s=0.3))
lock = threading.Lock()

def answer():
    while True:
        one = record()
        try:
            log.append([one])
        except UnavailableError:
            time.sleep(0.05)
            continue
        with lock:
            print(one.prediction_id, flush=True)
        time.sleep(0.002)

for _ in range(4):
    threading.Thread(target=answer).start()
"""
_PEER = """
import json, sys, threading
from rayplat.core.settings import Settings
from rayplat.serve.log.peer import LogPeer

peer = LogPeer(Settings(**json.loads(sys.argv[1])), sys.argv[2], "127.0.0.1", every_s=0.3)
peer.start()
print("a peer is known", flush=True)
threading.Event().wait()
"""


def _start(settings: Settings, out: Path, script: str = _ANSWER, *args: str) -> subprocess.Popen:
    """A process that answers, when it has acknowledged its first prediction."""
    told = args or (str(settings.home),)
    with out.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", script, *told], stdout=file, cwd=_ROOT)
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


def _kill(processes: list[subprocess.Popen]) -> None:
    """Kill processes and their children, at once."""
    children = [c for one in processes for c in psutil.Process(one.pid).children(recursive=True)]
    for one in [*processes, *children]:
        one.kill()
    for one in processes:
        one.wait()
    _, left = psutil.wait_procs(children, timeout=20)
    assert not left


def _node(tmp_path: Path, node: str, **more: object) -> Settings:
    shared = tmp_path / "shared"
    return Settings.model_validate(
        {
            "home": tmp_path / node,
            "database": f"sqlite:///{shared}/rayplat.db",
            "warehouse": f"file://{shared}/warehouse",
            "serve": {"log": "replicated", "log_copies": 1},
            **more,
        }
    )


def _check(tmp_path: Path, outs: list[Path], nodes: list[Settings]) -> None:
    """Ship what is left on the machines that are left, and compare."""
    acknowledged = [line for out in outs for line in out.read_text().splitlines() if len(line) == 36]
    lake = Lakehouse(nodes[0])
    before = lake.table(TABLE).read(["prediction_id"]).num_rows if lake.exists(TABLE) else 0
    for settings in nodes:
        PredictionLog(settings).drain(lake, settings, EventBus())
    found = lake.table(TABLE).read(columns=["prediction_id"])["prediction_id"].to_pylist()
    lake.close()
    print(f"{len(acknowledged)} acknowledged, {len(found)} in the table, {before} before the last drain")
    assert len(acknowledged) > 100
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))


def test_every_acknowledged_prediction_survives_the_loss_of_its_machine_with_the_disk(tmp_path):
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    chance = random.Random(seed)
    nodes = {name: _node(tmp_path, name) for name in "abc"}

    def peer(name: str) -> subprocess.Popen:
        told = tmp_path / f"peer {name} {time.time_ns()}.out"
        return _start(nodes[name], told, _PEER, nodes[name].model_dump_json(), name)

    peers = {name: peer(name) for name in "bc"}
    outs = [tmp_path / f"{i}.out" for i in range(3)]

    def answering(out: Path) -> subprocess.Popen:
        return _start(nodes["a"], out, _REPLICATED, nodes["a"].model_dump_json())

    started = [answering(out) for out in outs[:2]]
    try:
        for out in outs[2:]:
            time.sleep(chance.uniform(0.2, 0.8))
            lost = chance.choice("bc")
            _kill([peers[lost]])  # its disk stays: two machines at once are more than is promised
            time.sleep(chance.uniform(0.1, 0.5))
            peers[lost] = peer(lost)
            _kill([started.pop(chance.randrange(len(started)))])
            started.append(answering(out))
        time.sleep(chance.uniform(0.2, 0.8))
        _kill(started)
        shutil.rmtree(nodes["a"].home)
    finally:
        _kill(list(peers.values()))
    _check(tmp_path, outs, [nodes["b"], nodes["c"]])


def test_every_prediction_that_kafka_acknowledged_survives_the_loss_of_the_machine(tmp_path):
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    chance = random.Random(seed)
    with MockCluster() as cluster:
        cluster.create("rayplat-predictions", 3)
        a, b = (_node(tmp_path, name, kafka={"bootstrap": cluster.bootstrap}) for name in "ab")
        outs = [tmp_path / f"{i}.out" for i in range(3)]
        for out in outs:
            process = _start(a, out, _REPLICATED, a.model_dump_json())
            time.sleep(chance.uniform(0.1, 0.8))
            _kill([process])
            shutil.rmtree(a.home, ignore_errors=True)  # of the log there is nothing on the disk
        _check(tmp_path, outs, [b])

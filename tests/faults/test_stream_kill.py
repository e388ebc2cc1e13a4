"""`kill -9` of a replica amid streams: what `done` has acknowledged is in the table once, and whole."""

import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.prediction_log import TABLE, PredictionLog
from tests.serve.replicas.kept import wait_for
from tests.serve.replicas.test_standby import free_port

_ROOT = Path(__file__).parents[2]
_REPLICA = """
import sys, threading, time
from dataclasses import replace
from pathlib import Path
from rayplat.core.settings import Settings
from rayplat.serve.log.keeper import Keeper
from rayplat.serve.log.local import LocalLog
from rayplat.serve.stream_run import Parts
from tests.serve.front.served import fronted, served

def told(run):
    for i in range(int(run.instance["visits"])):
        yield {"i": i}
        time.sleep(0.002)

settings = Settings(home=Path(sys.argv[1]))
folder = settings.home / "prediction_log"
keeper = Keeper(folder, settings, every_s=1.0)
log = LocalLog(folder, opened=keeper.start)
with fronted(replace(served(), parts=Parts(told, {3: None})), log=log, port=int(sys.argv[2])):
    print("listening", flush=True)
    threading.Event().wait()
"""
CLIENTS = 6
KILLS = 2


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        done: the parts of each stream that was acknowledged, by its id.
        broken: how many streams began and ended without that.
    """

    done: dict[str, list[object]] = field(default_factory=dict)
    broken: int = 0


def _stream(url: str, visits: int, seen: Seen, lock: threading.Lock) -> None:
    body = orjson.dumps({"instances": [{"shop": "north", "amount": 0.5, "visits": visits}]})
    headers = {"accept": "application/jsonl"}
    parts: list[object] = []
    begun = False
    try:
        with httpx.stream("POST", url, content=body, headers=headers, timeout=30) as answer:
            for line in answer.iter_lines():
                told = orjson.loads(line)
                begun = True
                if told["event"] == "part":
                    parts.append(told["data"])
                elif told["event"] == "done":
                    with lock:
                        seen.done[told["data"]["ids"][0]] = parts
                    return
    except (httpx.HTTPError, orjson.JSONDecodeError):
        time.sleep(0.05)
    with lock:
        seen.broken += begun


def _begun(home: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _REPLICA, str(home), str(port)]
    replica = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    assert replica.stdout is not None
    assert replica.stdout.readline().strip() == "listening"
    return replica


@pytest.mark.slow
def test_acknowledged_streams_are_in_the_table_once_and_whole(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance, port = random.Random(seed), free_port()
    url = f"http://127.0.0.1:{port}/v1/endpoints/buys/predict"
    seen, lock, stop = Seen(), threading.Lock(), threading.Event()
    replica = _begun(tmp_path, port)

    def client(own: random.Random) -> None:
        while not stop.is_set():
            _stream(url, own.randrange(1, 60), seen, lock)

    clients = [threading.Thread(target=client, args=(random.Random(seed + i),)) for i in range(CLIENTS)]
    for one in clients:
        one.start()
    shippers: list[psutil.Process] = []
    try:
        for _ in range(KILLS):
            before = len(seen.done)
            wait_for(lambda before=before: len(seen.done) >= before + CLIENTS, 60)  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.2))
            shippers += psutil.Process(replica.pid).children()
            replica.kill()
            replica.wait()
            assert replica.stdout is not None
            replica.stdout.close()
            replica = _begun(tmp_path, port)
    finally:
        stop.set()
        for one in clients:
            one.join(60)
        shippers += psutil.Process(replica.pid).children()
        replica.kill()
        replica.wait()
        assert replica.stdout is not None
        replica.stdout.close()
        _, left = psutil.wait_procs(shippers, timeout=60)
    assert not left, "a shipper ends with its replica"
    assert len(seen.done) >= CLIENTS * KILLS
    assert seen.broken > 0, "no stream was on its way when the replica was killed"

    settings = Settings(home=tmp_path)
    lake = Lakehouse(settings)
    PredictionLog(settings).drain(lake, settings, EventBus())
    rows = lake.table(TABLE).read(["prediction_id", "output"]).to_pylist()
    outputs = {row["prediction_id"]: orjson.loads(row["output"]) for row in rows}
    assert len(outputs) == len(rows)
    for identity, parts in seen.done.items():
        assert outputs[identity] == {"parts": parts, "ended": "whole"}

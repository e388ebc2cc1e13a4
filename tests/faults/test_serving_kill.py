"""`kill -9` of what serves, under 20 requests a second, each asked for twice at most.

Replicas share a port here, without Ray; see `test_serving_kill_on_ray`. At most 0.5 % of the requests fail,
each prediction that was answered is in the table once, and a request that was sent again under its key is
answered once.
"""

import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.prediction_log import TABLE, PredictionLog

_ROOT = Path(__file__).parents[2]
A_SECOND = 20
_PAUSE_S = 0.1
# A disk that others write to takes seconds to make a record durable: that is no failure of what serves.
_PATIENCE_S = 30.0
_REPLICA = """
import sys, threading
from pathlib import Path
from rayplat.core.settings import Settings
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.log.idempotency import IdempotencyKeys
from rayplat.serve.log.keeper import Keeper
from rayplat.serve.log.local import LocalLog
from tests.serve.front.served import fronted

settings = Settings(home=Path(sys.argv[1]))
folder = settings.home / "prediction_log"
keeper = Keeper(folder, settings, every_s=1.0)
log = LocalLog(folder, opened=keeper.start)
with fronted(log=log, port=int(sys.argv[2]), keyed=KeyedRequests(IdempotencyKeys(settings))):
    print("listening", flush=True)
    threading.Event().wait()
"""


class Replicas:
    """Two processes that listen on one port; one that was killed is started again."""

    def __init__(self, home: Path, port: int) -> None:
        self._command = [sys.executable, "-c", _REPLICA, str(home), str(port)]
        self.running = [self._begun(), self._begun()]
        for one in self.running:
            self._ready(one)

    def kill_one(self, chance: random.Random) -> None:
        """Kill one of them, with its shipper now and then; returns when there are two again."""
        victim = self.running.pop(chance.randrange(2))
        children = psutil.Process(victim.pid).children()
        for child in children if chance.random() < 0.5 else []:
            child.kill()
        self._end(victim)
        psutil.wait_procs(children, timeout=20)
        self.running.append(self._begun())
        self._ready(self.running[-1])

    def close(self) -> None:
        children = [c for one in self.running for c in psutil.Process(one.pid).children()]
        for one in self.running:
            self._end(one)
        _, left = psutil.wait_procs(children, timeout=60)
        assert not left, "a shipper ends with its replica"

    def _begun(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)

    def _ready(self, one: subprocess.Popen[str]) -> None:
        assert one.stdout is not None
        assert one.stdout.readline().strip() == "listening"

    def _end(self, one: subprocess.Popen[str]) -> None:
        one.kill()
        one.wait()
        assert one.stdout is not None
        one.stdout.close()


@dataclass
class Load:
    """What was asked and what came of it.

    Attributes:
        answered: the ids of the predictions, by the key of their request.
        again: how many requests were sent again; `failed`: how many had no answer then either.
        met: what a request met instead of an answer.
    """

    answered: dict[str, str]
    again: int = 0
    failed: int = 0
    met: Counter[str] = field(default_factory=Counter)


def ask(url: str, number: int, load: Load, lock: threading.Lock, pause_s: float = _PAUSE_S) -> None:
    """Ask once, and once more under the same key, when the answer says so."""
    key = f"key {number}"
    wait_s = pause_s
    content = b'{"instances":[{"shop":"north","amount":0.5}]}'
    for attempt in range(2):
        try:
            answer = httpx.post(url, content=content, headers={"idempotency-key": key}, timeout=_PATIENCE_S)
            if answer.status_code == httpx.codes.OK:
                with lock:
                    load.answered[key] = answer.json()["predictions"][0]["id"]
                return
            met = f"{answer.status_code} {answer.text[:200]}"
            wait_s = max(wait_s, float(answer.headers.get("retry-after", 0)))
        except httpx.HTTPError as error:
            met = repr(error)
        with lock:
            load.met[f"attempt {attempt}: {met}"] += 1
            load.again += attempt == 0
            load.failed += attempt == 1
        time.sleep(wait_s)


@contextmanager
def pouring(url: str, load: Load, pause_s: float = _PAUSE_S) -> Iterator[threading.Lock]:
    """20 requests a second, from a thread."""
    lock, stop = threading.Lock(), threading.Event()

    def pour() -> None:
        begin, number = time.monotonic(), 0
        with ThreadPoolExecutor(64 + int(pause_s * A_SECOND)) as pool:
            while not stop.wait(max(0.0, begin + number / A_SECOND - time.monotonic())):
                pool.submit(ask, url, number, load, lock, pause_s)
                number += 1

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        yield lock
    finally:
        stop.set()
        thread.join()


def run(tmp_path: Path, kills: int) -> tuple[Settings, Load]:
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    chance = random.Random(seed)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    settings = Settings(home=tmp_path / "home")
    replicas, load = Replicas(settings.home, port), Load({})
    url = f"http://127.0.0.1:{port}/v1/endpoints/buys/predict"
    try:
        with pouring(url, load) as lock:
            for _ in range(kills):
                time.sleep(chance.uniform(0.3, 1.2))
                replicas.kill_one(chance)
            time.sleep(chance.uniform(0.5, 1.0))
        told_again(url, load, chance, lock)
    finally:
        replicas.close()
    return settings, load


def told_again(url: str, load: Load, chance: random.Random, lock: threading.Lock) -> None:
    """Whoever asks again under a key, also long after a kill, is told the answer that was given."""
    for key, told in chance.sample(sorted(load.answered.items()), 10):
        again = Load({})
        ask(url, int(key.split()[1]), again, lock)
        assert again.answered == {key: told}


def check(settings: Settings, load: Load) -> None:
    asked = len(load.answered) + load.failed
    lake = Lakehouse(settings)
    PredictionLog(settings).drain(lake, settings, EventBus())
    found = lake.table(TABLE).read(columns=["prediction_id"])["prediction_id"].to_pylist()
    lake.close()
    print(f"{asked} asked, {load.again} sent again, {load.failed} failed, {len(found)} in the table")
    print(*(f"{many} x {met}" for met, many in load.met.most_common()), sep="\n")
    assert asked > 3 * A_SECOND
    assert load.failed <= 0.005 * asked
    assert set(load.answered.values()) <= set(found)
    assert len(found) == len(set(found))
    assert len(set(load.answered.values())) == len(load.answered)


def test_replicas_that_are_killed_cost_no_answer_and_no_record(tmp_path: Path) -> None:
    settings, load = run(tmp_path, kills=2)
    check(settings, load)


@pytest.mark.slow
def test_replicas_that_are_killed_again_and_again(tmp_path: Path) -> None:
    settings, load = run(tmp_path, kills=15)
    check(settings, load)

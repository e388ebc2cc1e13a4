"""`kill -9` of a feature server and of its drain: every vector that was answered is in the lakehouse once."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.parity.log import FeatureLog
from rayplat.features.parity.vectors import VECTORS
from tests.features.server import world
from tests.features.server.running import Server, serving

WORLD = "tests.faults.logged_server"
CLIENTS = 4
_KEYS = 3
_PIPELINED = 5


class Client(threading.Thread):
    """Asks for entities that nobody else asks for, several requests at a time, until the server is gone."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._name = name
        self.asked: list[str] = []
        self.answered: list[str] = []

    def run(self) -> None:
        try:
            with self._server.connect() as client:
                for keys in self._requests():
                    waiting = [next(self._requests(), keys) for _ in range(_PIPELINED - 1)]
                    waiting.insert(0, keys)
                    for one in waiting:
                        self.asked += one
                        client.send("POST", "/v1/features/last", {"keys": one})
                    for one in waiting:
                        answer = client.answer()
                        assert answer.status == 200, answer.body
                        self.answered += one
        except OSError:
            return

    def _requests(self) -> Iterator[list[str]]:
        while True:
            start = len(self.asked) + random.randrange(1 << 40) * 1000
            yield [f"{self._name}-{start + i}" for i in range(_KEYS)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    world.fill(tmp_path)
    return tmp_path


def test_every_answered_vector_is_logged_once_whatever_is_killed(home: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    asked: list[str] = []
    answered: list[str] = []
    drains: list[int] = []
    for life in range(3):
        with serving(home, world=WORLD) as server:
            clients = [Client(server, f"{life}-{number}") for number in range(CLIENTS)]
            for client in clients:
                client.start()
            drain = _child(server.process.pid)
            drains += [] if drain is None else [drain]
            time.sleep(rng.uniform(0.2, 1.5))
            if life == 1 and drain is not None:
                os.kill(drain, signal.SIGKILL)
                time.sleep(rng.uniform(0.0, 0.5))
            server.process.send_signal(signal.SIGKILL)
            for client in clients:
                client.join(20)
            server.process.wait(30)
        asked += [key for client in clients for key in client.asked]
        answered += [key for client in clients for key in client.answered]
    assert len(drains) == 3
    _gone(drains)
    lake = Lakehouse(world.settings(home))
    _recovered(FeatureLog(home / "feature_log", lake), home / "feature_log")
    rows = lake.table(VECTORS).read(["vector_id", "request"]).to_pylist()
    lake.close()
    logged = Counter(orjson.loads(row["request"])["entity"] for row in rows)
    assert len(answered) > 100
    assert {key: logged[key] for key in answered if logged[key] != 1} == {}
    assert set(logged) <= set(asked)
    assert len({row["vector_id"] for row in rows}) == len(rows)


def _child(pid: int) -> int | None:
    """The drain of a server, as soon as there is one."""
    for _ in range(200):
        found = [
            child.pid for child in psutil.Process(pid).children() if "spawn_main" in str(child.cmdline())
        ]
        if found:
            return found[0]
        time.sleep(0.05)
    return None


def _gone(drains: list[int]) -> None:
    """Wait for drains to end with their servers, also those that were killed while they were starting."""
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in drains):
        assert time.monotonic() < deadline, "a drain has outlived its server"
        time.sleep(0.05)


def _recovered(log: FeatureLog, folder: Path) -> None:
    """Commit all that was left behind; a drain that is in the middle of a commit ends with its parent."""
    deadline = time.monotonic() + 30
    while list(folder.glob("*.answers")):
        assert time.monotonic() < deadline, "a drain does not let go of its file"
        log.recover()
        time.sleep(0.05)

"""More is asked than the lakehouse takes: the log stays bounded, and has what was answered once."""

import asyncio
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import orjson
import pytest

from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.online.opening import open_online
from rayplat.features.parity.log import FeatureLog
from rayplat.features.parity.spool import waiting
from rayplat.features.parity.vectors import VECTORS
from rayplat.features.server.asgi import FeaturesApp
from tests.features.fakes import FakeLake
from tests.features.server import world
from tests.features.server.narrow_world import MUCH_WAITING
from tests.features.server.running import Server, serving
from tests.features.server.world import fill, settings

WORLD = "tests.features.server.narrow_world"
VIEW = "/v1/features/last"


class Client(threading.Thread):
    """Asks for entities that nobody else asks for, `width` at a time, without a pause until it is ended."""

    def __init__(self, server: Server, name: str, width: int, pause_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._server, self._name, self._width, self._pause_s = server, name, width, pause_s
        self.end = threading.Event()
        self.answered: list[str] = []
        self.waits: list[str | None] = []
        self.statuses: Counter[int] = Counter()
        self.later = 0

    def run(self) -> None:
        asked = 0
        with self._server.connect() as client:
            while not self.end.is_set():
                keys = [f"{self._name}-{asked + i}" for i in range(self._width)]
                asked += self._width
                answer = client.ask("POST", VIEW, {"keys": keys})
                self.statuses[answer.status] += 1
                if answer.status == 200:
                    self.answered += keys
                    self.later += bool(self.waits)
                else:
                    self.waits.append(answer.headers.get("retry-after"))
                # A refused client that did not wait at all would take the drain's processor.
                self.end.wait(self._pause_s if answer.status == 200 else 0.01)


def test_what_waits_is_bounded_and_what_was_answered_is_shipped_once(tmp_path: Path) -> None:
    fill(tmp_path)
    folder = tmp_path / "feature_log"
    most = 0
    with serving(tmp_path, world=WORLD) as server:
        many = [Client(server, f"many{number}", 100) for number in range(2)]
        few = Client(server, "few", 1, pause_s=0.005)
        for client in [*many, few]:
            client.start()
        deadline = time.monotonic() + 40
        # Until each was refused, and answered again after that: the drain had made room.
        while any(client.later < 20 for client in many) and time.monotonic() < deadline:
            most = max(most, waiting(folder, ".answers"))
            time.sleep(0.02)
        for client in [*many, few]:
            client.end.set()
            client.join(20)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    assert all(set(client.statuses) == {200, 503} for client in many), [c.statuses for c in many]
    assert all(client.later >= 20 for client in many)
    assert set(few.statuses) == {200}
    waits = [wait for client in many for wait in client.waits]
    assert all(wait is not None and 1 <= int(wait) <= 60 for wait in waits), set(waits)
    # One answer of each client may come over the mark, and those about one entity go on: a few per cent.
    assert MUCH_WAITING * 0.9 < most < MUCH_WAITING * 1.2
    lake = Lakehouse(settings(tmp_path))
    rows = lake.table(VECTORS).read(["vector_id", "request"]).to_pylist()
    lake.close()
    logged = Counter(orjson.loads(row["request"])["entity"] for row in rows)
    assert logged == Counter(key for client in [*many, few] for key in client.answered)
    assert len({row["vector_id"] for row in rows}) == len(rows)


@pytest.mark.parametrize("view", ["last", "filled"])
def test_over_asgi_a_refused_answer_tells_when_to_ask_again(tmp_path: Path, view: str) -> None:
    """Of the fast path and of the general one, which makes the views with defaults."""
    fill(tmp_path)
    online = open_online(settings(tmp_path))
    lake = FakeLake()
    log = FeatureLog(tmp_path / "log", lake, much_waiting=1_000)
    app = FeaturesApp(world.project, online, local=True, log=log)

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            told = [
                await client.post(f"/v1/features/{view}", json={"keys": ["a"] * width})
                for width in (50, 50, 1)
            ]
        ends = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> dict[str, str]:
            return next(ends)

        async def send(_message: object) -> None:
            return None

        await app({"type": "lifespan"}, receive, send)
        return told

    first, second, third = asyncio.run(ask())
    assert (first.status_code, second.status_code, third.status_code) == (200, 503, 200)
    assert second.headers["retry-after"] == "1"
    assert "wait for the lakehouse" in second.json()["detail"]
    assert lake.table(VECTORS).count() == 51
    online.close()

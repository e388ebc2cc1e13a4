"""Every vector that the server answers is in the lakehouse's log, with the values that were answered."""

import asyncio
import signal
from pathlib import Path

import httpx
import orjson
import pytest

from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.online.opening import open_online
from rayplat.features.parity.journal_rows import read_journal
from rayplat.features.parity.log import FeatureLog
from rayplat.features.parity.vectors import VECTORS
from rayplat.features.server.asgi import FeaturesApp
from tests.features.fakes import FakeLake
from tests.features.server import world
from tests.features.server.running import serving
from tests.features.server.world import fill, settings

WORLD = "tests.features.server.logged_world"


def test_what_is_answered_is_logged_whichever_way_it_was_asked(tmp_path: Path) -> None:
    fill(tmp_path)
    with serving(tmp_path, world=WORLD) as server:
        compact = server.ask("POST", "/v1/features/last", {"keys": ["a", "nobody"]})
        asked = {"features": ["filled:x"], "entities": {"entity": ["c d"]}}
        feast = server.ask("POST", "/get-online-features", asked)
        assert (compact.status, feast.status) == (200, 200)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    lake = Lakehouse(settings(tmp_path))
    logged = {
        orjson.loads(row["request"])["entity"]: orjson.loads(row["features"])
        for row in lake.table(VECTORS).read().to_pylist()
    }
    lake.close()
    assert set(logged) == {"a", "nobody", "c d"}
    assert logged["a"]["last__x"] == 2.5
    assert logged["nobody"]["last__x"] is None
    assert logged["c d"]["filled__x"] == -1.0


def test_a_server_killed_after_its_answer_loses_no_vector(tmp_path: Path) -> None:
    fill(tmp_path)
    with serving(tmp_path, world=WORLD) as server:
        for _ in range(20):
            assert server.ask("POST", "/v1/features/last", {"keys": ["a"]}).status == 200
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(30)
    with serving(tmp_path, world=WORLD) as server:  # the next one commits what was left behind
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    lake = Lakehouse(settings(tmp_path))
    assert lake.table(VECTORS).count() == 20
    lake.close()


def test_the_fast_path_logs_before_it_answers(tmp_path: Path) -> None:
    fill(tmp_path)
    with serving(tmp_path, world=WORLD) as server, server.connect() as client:
        folder = tmp_path / "feature_log"
        for number in range(1, 4):
            for _ in range(10):  # all in one turn of the loop
                client.send("POST", "/v1/features/last", {"keys": ["a", "nobody"]})
            for _ in range(10):
                assert client.answer().json["values"][0][0] == 2.5
            (journal,) = folder.iterdir()
            assert journal.suffix == ".answers"
            assert len(read_journal(journal.read_bytes()).answers) == 10 * number


def test_what_cannot_be_logged_is_not_answered(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "feature_log").write_text("in the way of the folder")
    with serving(tmp_path, world=WORLD) as server, server.connect() as client:
        answer = client.ask("POST", "/v1/features/last", {"keys": ["a"]})
        assert answer.status == 503
        assert "feature log" in answer.json["detail"]
        assert client.ask("GET", "/healthz").status == 200
        (tmp_path / "feature_log").unlink()
        assert client.ask("POST", "/v1/features/last", {"keys": ["a"]}).status == 200


@pytest.mark.parametrize("binary", [False, True])
def test_over_asgi_the_log_has_what_was_answered(tmp_path: Path, binary: bool) -> None:
    fill(tmp_path)
    online = open_online(settings(tmp_path))
    lake = FakeLake()
    app = FeaturesApp(world.project, online, local=True, log=FeatureLog(tmp_path / "log", lake))

    async def ask() -> int:
        kind = "application/octet-stream" if binary else "application/json"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            keys = {"keys": ["a", "nobody", "b"]}
            answer = await client.post("/v1/features/last", json=keys, headers={"accept": kind})
            await client.post("/v1/features/filled", json=keys)
        ends = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> dict[str, str]:
            return next(ends)

        async def send(_message: object) -> None:
            return None

        await app({"type": "lifespan"}, receive, send)
        return answer.status_code

    assert asyncio.run(ask()) == 200
    online.close()
    told = lake.table(VECTORS).read().to_pylist()
    by_view = {
        (orjson.loads(row["request"])["entity"], next(iter(orjson.loads(row["views"])))): orjson.loads(
            row["features"]
        )
        for row in told
    }
    assert len(told) == 6
    assert by_view["a", "last"] == {
        "last__x": 2.5,
        "last__missing": False,
        "last__at": "2013-03-01T02:00:00+00:00",
    }
    assert by_view["b", "last"]["last__x"] == "NaN"
    assert by_view["nobody", "last"]["last__x"] is None
    assert by_view["nobody", "filled"]["filled__x"] == -1.0

"""Every vector that the server answers is in the lakehouse's log, with the values that were answered."""

import signal
from pathlib import Path

import orjson

from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.parity.vectors import VECTORS
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

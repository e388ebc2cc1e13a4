"""Peers on the nodes of a cluster: actors that are found, and not made twice."""

import socket
import subprocess
import sys
import time

import pytest

from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.nodes import ensure_peers, this_node
from rayplat.serve.log.peers import Peers
from rayplat.serve.log.places import ship_all
from rayplat.serve.log.replicated import MirroredLog
from tests.serve.logs import record

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def _actors():
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return [one for one in named if one["namespace"] == "rayplat-prediction-log"]


def test_each_node_has_a_peer_that_takes_what_another_node_logs(ray_session, tmp_path):
    import ray

    settings = Settings.model_validate({"home": tmp_path, "serve": {"log": "replicated"}})
    peers, end = Peers(settings), time.monotonic() + 60
    try:
        assert ensure_peers(settings) == ensure_peers(settings) == len(ray.nodes())
        while not (found := peers.beside("elsewhere", "k", time.time())):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert [peer.node for peer in found] == [this_node()]
        assert peers.beside(this_node(), "k", time.time()) == [], "no node keeps copies for itself"
        assert len(_actors()) == 1
        with socket.create_connection((found[0].host, found[0].port), timeout=5):
            assert found[0].host != ""
        log = MirroredLog(settings, "elsewhere")
        log.append([record()])
        assert len(list((tmp_path / "prediction_copies").glob("*/*/*/*.wal"))) == 1
        log.close()
        lake = Lakehouse(settings)
        assert ship_all(settings, lake, EventBus()).rows == 1
        lake.close()
    finally:
        for one in _actors():
            ray.kill(ray.get_actor(one["name"], namespace=one["namespace"]))
        peers.close()


_WITHOUT_RAY = """
import sys
from rayplat.core.settings import Settings
from rayplat.serve.log.nodes import ensure_peers, this_node

print(this_node(), ensure_peers(Settings()), "ray" in sys.modules)
"""


def test_without_ray_a_machine_goes_by_its_name_and_has_no_peers_made():
    told = subprocess.run(
        [sys.executable, "-c", _WITHOUT_RAY], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.split() == [socket.gethostname(), "0", "False"]

"""`rayplat ingest`: once, its status, and the service that ends at a signal."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.measures import set_lag
from rayplat.data.streaming.metrics_page import serve_metrics
from tests.cli.conftest import Ran
from tests.data.worlds import TABLE, mixture, produce

Run = Callable[..., Ran]
PROJECT = """
import rayplat as rp
project = rp.Project("flights", owner="ops@example.com")
project.table("raw.departures", columns={"flight_id": "string", "scheduled_at": "timestamp",
              "distance": rp.Column("int64", nullable=False), "delay": "float64", "cancelled": "bool"},
              key="flight_id", event_time="scheduled_at", source=rp.Kafka("departures"))
"""


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create("departures", 2)
        yield cluster


@pytest.fixture
def address(tmp_path: Path) -> str:
    path = tmp_path / "flights.py"
    path.write_text(PROJECT)
    return str(path)


@pytest.mark.ray
def test_once_status_and_the_service(
    rayplat: Run, ray_session: Settings, address: str, cluster: MockCluster
) -> None:
    values = mixture(100, seed=4)
    produce(cluster.bootstrap, "departures", 0, values)
    where = ["--home", str(ray_session.home), "--set", f"kafka.bootstrap={cluster.bootstrap}", "-o", "json"]
    (report,) = rayplat("ingest", "run", address, "--once", *where).data
    assert report["rows"] + report["dead"] + report["quarantined"] == len(values)
    (status,) = rayplat("ingest", "status", address, *where).data
    assert status["totals"]["received"] == len(values)
    assert status["lag"] == 0
    assert {(p["partition"], p["high"], p["lag"]) for p in status["partitions"]} == {
        ("0", len(values), 0),
        ("1", 0, 0),
    }
    assert "raw.departures" in rayplat("ingest", "status", address, *where[:-2]).out
    produce(cluster.bootstrap, "departures", 1, values)
    (behind,) = rayplat("ingest", "status", address, *where).data
    assert behind["lag"] == len(values)
    command = [sys.executable, "-m", "rayplat.cli", "ingest", address, *where]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
    lake, end = Lakehouse(ray_session), time.monotonic() + 60
    while lake.table(TABLE).history()[-1].offsets.get("1") != len(values):
        assert time.monotonic() < end
        assert served.poll() is None
        time.sleep(0.2)
    served.send_signal(signal.SIGTERM)
    out, error = served.communicate(timeout=60)
    assert served.returncode == 0, error.decode()
    assert json.loads(out)[0]["offsets"] == {"0": len(values), "1": len(values)}
    lake.close()


def test_a_broker_that_is_away_is_told(rayplat: Run, tmp_path: Path, address: str) -> None:
    where = ["--home", str(tmp_path / "home"), "--set", "kafka.bootstrap=127.0.0.1:1"]
    where += ["--set", "ingest.poll_timeout_s=0.3", "-o", "json"]
    (status,) = rayplat("ingest", "status", address, *where).data
    assert "127.0.0.1:1" in status["trouble"]
    assert status["lag"] is None


def test_metrics_are_served_on_loopback() -> None:
    set_lag("raw.served", {"0": 7})
    with serve_metrics(0) as port:
        assert port == 0
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serve_metrics(port):
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    assert 'rayplat_ingest_lag_records{partition="0",table="raw.served"} 7.0' in text

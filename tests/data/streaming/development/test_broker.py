"""The development broker: found again, given topics, started anew when it was killed; loopback only."""

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from rayplat.cluster.processes import running, stop_process
from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.settings import KafkaSettings, Settings
from rayplat.data.streaming.development.broker import resolve_bootstrap, start_broker
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.sources.kafka import KafkaSource
from tests.data.worlds import produce


@pytest.fixture
def home(settings: Settings) -> Iterator[Settings]:
    yield settings
    stop_process(settings, "kafka")


def partitions(bootstrap: str, topic: str) -> list[int]:
    with KafkaSource(bootstrap, topic) as source:
        return source.partitions()


def test_started_once_with_the_declared_partitions(home: Settings) -> None:
    bootstrap = start_broker(home, {"a": 3})
    assert bootstrap.startswith("127.0.0.1:")
    assert start_broker(home, {"a": 3}) == bootstrap == resolve_bootstrap(home)
    assert partitions(bootstrap, "a") == [0, 1, 2]
    process = running(home, "kafka")
    assert process is not None
    listening = [c for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}


def test_topics_are_added_while_it_runs(home: Settings) -> None:
    bootstrap = start_broker(home, {"a": 1})
    produce(bootstrap, "a", 0, [b"kept"])
    assert start_broker(home, {"a": 1, "b": 2}) == bootstrap
    assert partitions(bootstrap, "b") == [0, 1]
    with pytest.raises(UserError, match=r"'b' has 2 partitions .* not 4"):
        start_broker(home, {"b": 4})
    with KafkaSource(bootstrap, "a") as source:
        assert source.watermarks()[0].high == 1


def test_a_killed_broker_is_noticed_and_started_anew(home: Settings) -> None:
    first = start_broker(home, {"a": 1})
    produce(first, "a", 0, [b"lost"])
    process = running(home, "kafka")
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(process.pid)] if psutil.pid_exists(process.pid) else [], timeout=3)
    with pytest.raises(UnavailableError, match="no development broker"):
        resolve_bootstrap(home)
    second = start_broker(home, {"b": 2})
    assert partitions(second, "a") == [0], "topics of the first are there again"
    with KafkaSource(second, "a") as source:
        assert source.watermarks()[0].high == 0


def test_the_settings_come_first(settings: Settings) -> None:
    named = settings.model_copy(update={"kafka": KafkaSettings(bootstrap="kafka.example.com:9092")})
    assert resolve_bootstrap(named) == "kafka.example.com:9092"
    with pytest.raises(UnavailableError, match="rayplat up"):
        resolve_bootstrap(settings)


def test_a_cluster_refuses_to_change_partitions() -> None:
    with MockCluster() as cluster:
        cluster.create("a", 2)
        cluster.create("a", 2)
        with pytest.raises(UserError, match="has 2 partitions"):
            cluster.create("a", 3)
    cluster.close()

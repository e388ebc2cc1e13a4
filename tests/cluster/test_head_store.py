"""Where a local head keeps its tables; with a real Redis its control store is killed and comes back."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayplat.cluster.head import read_head
from rayplat.cluster.head_store import empty, head_store
from rayplat.cluster.processes import ours
from rayplat.cluster.session import down, gcs_address, up
from rayplat.cluster.spec import parse_spec
from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings
from tests.features.online.redis_server import start

_SPEC = "platform: {head_store: redis, redis: 'redis://r.example.com:6379/0'}\n"


@pytest.mark.parametrize(
    ("spec", "online", "variables", "arguments"),
    [
        (_SPEC, "sqlite:///x.db", {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": "/f/gcs"}, ()),
        ("{}", "redis://h:1/0", {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": "/f/gcs"}, ()),
        (_SPEC, "redis://h:1/0", {"RAY_REDIS_ADDRESS": "h:1"}, ()),
        (_SPEC, "rediss://h", {"RAY_REDIS_ADDRESS": "rediss://h:6379"}, ()),
        (
            _SPEC,
            "redis://u:p%40w@h:1/0",
            {"RAY_REDIS_ADDRESS": "h:1"},
            ("--redis-username=u", "--redis-password=p@w"),
        ),
    ],
)
def test_the_store_is_redis_where_file_and_platform_have_one(
    tmp_path: Path, spec: str, online: str, variables: dict[str, str], arguments: tuple[str, ...]
) -> None:
    found = head_store(Settings.model_validate({"home": tmp_path, "online": online}), parse_spec(spec), "/f")
    assert {k: v for k, v in found.variables.items() if "namespace" not in k} == variables
    assert found.arguments == arguments


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    server, url = start(tmp_path)
    yield url
    server.kill()
    server.wait(10)


def test_a_redis_that_is_not_there_is_told(tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path, "online": "redis://127.0.0.1:9/0"})
    with pytest.raises(UnavailableError, match=r"Redis at 127\.0\.0\.1:9"):
        empty(settings, head_store(settings, parse_spec(_SPEC), "/f"))


@pytest.mark.slow
def test_a_control_store_over_redis_is_killed_and_comes_back(tmp_path: Path, redis_url: str) -> None:
    spec = tmp_path / "platform.yaml"
    spec.write_text(_SPEC)
    settings = Settings.model_validate(
        {"home": tmp_path / "home", "online": redis_url, "ray": {"spec": str(spec), "cpus": 1}}
    )
    up(settings)
    try:
        from ray._raylet import GcsClient

        store = GcsClient(address=gcs_address(settings))
        store.internal_kv_put(b"kept", b"yes", True, b"test")
        before = read_head(settings)
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)  # at once: the supervisor may not watch yet
        time.sleep(0.1)
        after = read_head(settings)
        assert after is not None
        assert (after.address, after.raylet) == (before.address, before.raylet)
        assert after.pid != before.pid
        again = GcsClient(address=after.address)
        assert again.internal_kv_get(b"kept", b"test") == b"yes"
        down(settings)
        up(settings)  # a new head is a new cluster: nothing of the former is left
        fresh = GcsClient(address=gcs_address(settings))
        assert fresh.internal_kv_get(b"kept", b"test") is None
    finally:
        down(settings)
    assert ours(settings) == []

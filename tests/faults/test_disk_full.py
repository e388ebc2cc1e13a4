"""A disk that fills up while the ingest writes: a clear error, nothing lost, and on it goes with space."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayplat.core.errors import RayplatError
from rayplat.core.events import EventBus
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.integrity import verify_table
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.ingest import ingest_once
from tests.data.worlds import departures, produce, received, record

RECORDS = 12_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 3 MiB; only root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user cannot mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    with MockCluster() as cluster:
        cluster.create("departures", 2)
        for partition in (0, 1):
            produce(cluster.bootstrap, "departures", partition, [record(i) for i in range(RECORDS)])
        settings = Settings(
            home=tmp_path / "home",
            warehouse=f"file://{small_disk}",
            kafka=KafkaSettings(bootstrap=cluster.bootstrap),
            ingest=IngestSettings(batch_rows=1000),
        )
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (3 * 2**20 - 300_000))
        lake = Lakehouse(settings)
        with pytest.raises((RayplatError, OSError), match="No space left on device"):
            ingest_once(lake, departures(), settings, EventBus(), executor=InlineExecutor())
        seen = lake.table("raw.departures")
        before = seen.count()
        assert verify_table(seen.base()).damaged == ()
        assert seen.read().num_rows == before < 2 * RECORDS
        ballast.unlink()
        ingest_once(lake, departures(), settings, EventBus(), executor=InlineExecutor())
        received(lake).check({0: RECORDS, 1: RECORDS})
        lake.close()

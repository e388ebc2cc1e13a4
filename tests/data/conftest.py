"""What the tests of data share: a lakehouse in a folder of its own, and a broker in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.development.mock_cluster import MockCluster


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def lake(settings: Settings) -> Iterator[Lakehouse]:
    lake = Lakehouse(settings)
    yield lake
    lake.close()


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        yield cluster

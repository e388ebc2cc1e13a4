"""What every test folder shares: one small Ray for the whole run, started and stopped by its own ids."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rayplat.core.settings import Settings


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of a running platform, and this process is connected to it."""
    from rayplat.cluster.session import connect, disconnect, down, up

    home: Path = tmp_path_factory.mktemp("platform")
    settings = Settings.model_validate(
        {"home": home, "ray": {"cpus": 4, "object_store_mib": 256}, "serve": {"port": 0}}
    )
    up(settings)
    try:
        connect(settings)
        yield settings
    finally:
        disconnect()
        down(settings)

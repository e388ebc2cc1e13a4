"""What every test folder shares: one small Ray for the whole run, and how files are dealt to processes.

Knows which files use that Ray; it does not know how many processes pytest-xdist starts, or whether it does.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from rayplat.core.settings import Settings

_ROOT = Path(__file__).parents[1]

# Beside other processes an example may take any time; Hypothesis would call that flaky.
hypothesis.settings.register_profile("beside others", deadline=None)
hypothesis.settings.load_profile("beside others")


@cache
def _on_ray(file: str) -> bool:
    return "ray_session" in (_ROOT / file).read_text(encoding="utf-8")


class OneRay(LoadFileScheduling):  # type: ignore[misc]
    """Deals whole files, so a module's fixtures are made once; those on the session's Ray go to one process.

    So there is one Ray, and nobody else takes its CPUs.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "on ray" if _on_ray(file) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneRay:
    # In the order of collection, see below; xdist would put the files with the most tests first.
    config.option.loadscopereorder = False
    return OneRay(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first: what runs last is short, and the processes end together."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    file, _, _ = item.nodeid.partition("::")
    if _on_ray(file):
        return 0
    return 1 if file.startswith("tests/faults/") else 2


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

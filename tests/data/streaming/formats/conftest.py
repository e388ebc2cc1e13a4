"""What the tests of formats share: a schema registry that answers."""

from collections.abc import Iterator

import pytest

from tests.data.streaming.formats.registry_server import RegistryServer


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server

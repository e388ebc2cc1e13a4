"""The token file: made once, for its owner only, refused when others can read it."""

import stat
from pathlib import Path

import pytest

from rayplat.cluster.token import client_environment, ensure_token
from rayplat.core.errors import UserError
from rayplat.core.settings import Settings


def test_the_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    path = ensure_token(settings)
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first) == 64
    assert ensure_token(settings).read_text() == first


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    ensure_token(settings).chmod(0o644)
    with pytest.raises(UserError, match="0644"):
        ensure_token(settings)


def test_clients_get_the_token_and_stay_on_loopback(tmp_path: Path) -> None:
    environment = client_environment(Settings(home=tmp_path))
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "run" / "auth_token")
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"

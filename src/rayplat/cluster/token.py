"""The cluster's token: what lets a client in.

Knows how the token file is made, that only its owner can read it, and which environment hands it to
Ray; it does not know what Ray does with it.
"""

import os
import secrets
import stat
import sys
from pathlib import Path

from rayplat.core.errors import UserError
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import set_for_sdk

OWNER_ONLY = 0o600
_BYTES = 32


def token_path(settings: Settings) -> Path:
    """Where the token of this platform is kept."""
    return settings.run_dir / "auth_token"


def ensure_token(settings: Settings) -> Path:
    """The path of the token file, mode 0600; the token is made when there is none yet.

    Raises:
        UserError: others can read the file, so the token must be taken as known to them.
    """
    path = token_path(settings)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_BYTES))
        draft.replace(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UserError(
            f"the token file {path} has mode {mode:04o}: others on this machine can read it",
            "run `rayplat down`, delete the file, and `rayplat up` makes a new one",
        )
    return path


def client_environment(settings: Settings) -> dict[str, str]:
    """The variables with which Ray's clients and servers use the token and stay on loopback.

    `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0` is Ray's switch for one machine: it makes every server of
    Ray bind to 127.0.0.1 where it would otherwise bind to all interfaces.
    """
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path(settings)),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if settings.ray.bind in ("127.0.0.1", "localhost"):
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return environment


def use_token(settings: Settings) -> None:
    """Let this process's Ray clients in.

    Ray reads how it authenticates and whether it stays on loopback once, when it is imported, and a
    client that has it wrong waits for ever: so the environment is set, and a Ray that was imported
    before is told as well.
    """
    environment = client_environment(settings)
    set_for_sdk(environment)
    if "ray" in sys.modules:
        from ray._private import ray_constants
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        if ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR in environment:
            ray_constants.ENABLE_RAY_CLUSTER = False
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()

"""The door to a cluster: where its jobs API listens, and the token that opens it.

Knows where address and token may be said (settings, the head's record, Ray's own variables and
files); it does not know whether anybody answers.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rayplat.cluster.head import read_head
from rayplat.cluster.token import token_path
from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import process_environment

_DASHBOARD_PORT = 8265


@dataclass(frozen=True, slots=True)
class Door:
    """Where a cluster is asked.

    Attributes:
        address: http(s)://host:port, without a slash at the end.
        token: what is sent; empty: nothing.
        own: the cluster is the platform's own, on this machine.
        place: names the cluster's place for the history, whatever its port is today.
        said_by: where the address was said, and `token_from` where the token was looked for.
    """

    address: str
    token: str = field(repr=False)
    own: bool
    place: str
    said_by: str
    token_from: str


def own_place(settings: Settings) -> str:
    """The place of the platform's own cluster: this machine and the home."""
    return f"{socket.gethostname()}:{settings.home}"


def find_door(settings: Settings) -> Door:
    """The door of the platform's cluster: `ray.address`, else its own Ray, else what Ray's variables say.

    Raises:
        UnavailableError: nothing says where a cluster is.
        UserError: an address from which none can be told.
    """
    environment = process_environment()
    head = read_head(settings)
    said = settings.ray.address
    if said and not (head and said == head.address):
        return _remote(said, "the setting ray.address", settings, environment)
    if head is not None:
        path = token_path(settings)
        token = path.read_text().strip() if path.is_file() else ""
        return Door(head.dashboard, token, True, own_place(settings), "the running platform", str(path))
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        if environment.get(name):
            return _remote(environment[name], f"the variable {name}", settings, environment)
    raise UnavailableError(
        f"no Ray runs for the platform in {settings.home}",
        "run `rayplat up`, or name a cluster: --set ray.address=http://HOST:8265",
    )


def _remote(said: str, by: str, settings: Settings, environment: Mapping[str, str]) -> Door:
    address = dashboard_address(said, settings.ray.dashboard_port or _DASHBOARD_PORT, by)
    token, source = _token(environment, settings)
    return Door(address, token, False, address, f"{by} ({said})", source)


def dashboard_address(said: str, port: int, by: str = "the address") -> str:
    """The jobs API's address for what was said.

    Args:
        said: `http(s)://host:port` as it is; of `ray://host:port` and `host:port` (the control
            store's) only the host counts.
        port: where the dashboard listens when `said` does not tell.

    Raises:
        UserError: no host can be read from it.
    """
    scheme, separator, rest = said.partition("://")
    host = urlsplit(f"//{rest if separator else said}")
    if (separator and scheme not in ("http", "https", "ray")) or not host.hostname or said == "auto":
        raise UserError(
            f"{by} is {said!r}, from which no jobs API can be told", "write http://HOST:8265 or HOST:6379"
        )
    if scheme in ("http", "https") and separator:
        return said.rstrip("/")
    name = f"[{host.hostname}]" if ":" in host.hostname else host.hostname
    return f"http://{name}:{port}"


def _token(environment: Mapping[str, str], settings: Settings) -> tuple[str, str]:
    """The token, and where it was found or was looked for; in the order in which Ray looks."""
    if environment.get("RAY_AUTH_TOKEN"):
        return environment["RAY_AUTH_TOKEN"].strip(), "RAY_AUTH_TOKEN"
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    paths = [Path(named)] if named else [Path.home() / ".ray" / "auth_token", token_path(settings)]
    for path in paths:
        try:
            text = path.expanduser().read_text().strip()
        except OSError:
            continue
        if text:
            return text, str(path)
    return "", ", ".join(["RAY_AUTH_TOKEN", *map(str, paths)])

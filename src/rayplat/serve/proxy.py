"""The HTTP door of Ray Serve: started once a cluster, found again by asking Serve.

Knows host, port and the options that Serve takes only when it starts; it does not know endpoints.
"""

import contextlib
import logging
import socket
from typing import Any

from rayplat.core.errors import UserError
from rayplat.core.settings import Settings
from rayplat.serve.grpc.service import SERVICER

_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104  # compared with, not bound to
_LOCAL = {"127.0.0.1", "::1", "localhost"}
_REQUEST_TIMEOUT_S = 60.0


def ensure_proxy(settings: Settings) -> str:
    """Start Serve, if it does not run; the address that it answers at, such as `http://127.0.0.1:8000`.

    Host, port and timeouts belong to the cluster and are settled by whoever starts Serve first: a later
    setting of another port changes nothing until Serve is shut down, and the real address is returned.

    Raises:
        UserError: the port is taken by something else.
    """
    running = proxy_address()
    if running is not None:
        return running
    from ray import serve

    host = settings.serve.host
    port = _free_port(host, settings.serve.port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        # A proxy on each node would fight for one port where several nodes share a loopback.
        proxy_location="HeadOnly" if host in _LOCAL else "EveryNode",
        http_options={"host": host, "port": port, "request_timeout_s": _REQUEST_TIMEOUT_S},
        grpc_options=grpc_options(settings),
        # Each request of Serve's access log is a line on disk: a third of the time of a small prediction.
        logging_config={"enable_access_log": False},
    )
    return _address(host, port)


def grpc_options(settings: Settings) -> dict[str, Any] | None:
    """The gRPC door, as Serve is told of it; None: there is none."""
    port = settings.serve.grpc_port
    if not port:
        return None
    return {
        "port": port,
        "grpc_servicer_functions": [SERVICER],
        "request_timeout_s": _REQUEST_TIMEOUT_S,
    }


def proxy_address() -> str | None:
    """Where the running Serve answers, as Serve itself tells it; None while it does not run."""
    options = _running_options()
    return None if options is None else _address(options.host, options.port)


def _running_options() -> Any | None:
    # Serve's public status does not tell the port. Its own client asks the controller, and caches nothing
    # beyond the session of this process.
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    return None if client is None else client.http_config


def _address(host: str, port: int) -> str:
    reached = "127.0.0.1" if host in _EVERYWHERE else host
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def _free_port(host: str, wanted: int) -> int:
    """The wanted port, or a free one for 0.

    Raises:
        UserError: something else listens on it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, wanted))
        except OSError as error:
            raise UserError(
                f"endpoints cannot listen on {host}:{wanted}: {error.strerror}",
                "set serve.port to another port, or to 0 for a free one",
            ) from error
        return int(door.getsockname()[1])

"""The metrics page: what this process counts, for Prometheus, on loopback.

Knows the port; it does not know what is counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rayplat.core.errors import UserError

HOST = "127.0.0.1"


@contextmanager
def serve_metrics(port: int) -> Iterator[int]:
    """Serve this process's metrics on loopback as long as the context lasts.

    Args:
        port: where; 0: nowhere.

    Yields:
        The port.

    Raises:
        UserError: the port is taken.
    """
    if not port:
        yield 0
        return
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, HOST)
    except OSError as error:
        raise UserError(
            f"the metrics cannot be served on {HOST}:{port}: {error.strerror}",
            "free the port, or set ingest.metrics_port to another one (0: off)",
        ) from error
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

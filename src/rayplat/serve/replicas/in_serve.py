"""Ray Serve's autoscaling policy: as many replicas as the keeper wants, or as Serve's own requests need.

Knows one small file and Serve's context; it does not know why a number is wanted. Serve copies this module
into its controller, where it is asked ten times a second: so it imports nothing of the project.
"""

import math
import socket
from pathlib import Path
from typing import Any


class Wanted:
    """The policy of one endpoint.

    Args:
        home: of the platform.
        port: that the keeper holds.
        endpoint: whose replicas these are.
        ongoing: so many requests that came through Serve's own door are right for a replica.
    """

    def __init__(self, home: str, port: int, endpoint: str, ongoing: float) -> None:
        folder = Path(home) / "front" / socket.gethostname() / f"keeper-{port}"
        self._file = folder / f"{endpoint}.wanted"
        self._ongoing = ongoing

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """The number of replicas, and no state."""
        for_serve = math.ceil(context.total_num_requests / self._ongoing)
        try:
            wanted = int(self._file.read_text())
        except (OSError, ValueError):
            # Nobody wants anything yet, or the keeper is being started again.
            wanted = context.target_num_replicas
        return max(wanted, for_serve), {}

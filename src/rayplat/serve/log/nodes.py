"""The nodes of a cluster as keepers of copies: on each of them an actor is a peer.

Knows which node a process runs on and how peers are started on the others; it does not know what a peer does.
Without Ray a machine is named by its host, and peers are started by hand.
"""

import hashlib
import socket
import sys
from typing import Any

from rayplat.core.settings import Settings
from rayplat.core.telemetry import configure_logging

MOST_PEERS = 8
"""So many nodes keep copies; a larger cluster needs no more."""

_NAMESPACE = "rayplat-prediction-log"


def _ray() -> Any:
    """Ray, where this process is connected to it; a process that is not never loads it for this."""
    ray = sys.modules.get("ray")
    return ray if ray is not None and ray.is_initialized() else None


def this_node() -> str:
    """The name of the node that this process runs on."""
    ray = _ray()
    return socket.gethostname() if ray is None else str(ray.get_runtime_context().get_node_id())


class NodePeer:
    """The actor: a peer on one node, as long as the node lives."""

    def __init__(self, settings: Settings) -> None:
        import ray

        from rayplat.serve.log.peer import LogPeer

        configure_logging(settings.log)
        address = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        self._peer = LogPeer(settings, this_node(), address)
        self._peer.start()

    def ready(self) -> bool:
        """Answers when it is a peer."""
        return True


def ensure_peers(settings: Settings) -> int:
    """See that there is a peer on every node, up to `MOST_PEERS`; how many nodes there are.

    Without Ray nothing is done. It does not wait for the peers.
    """
    ray = _ray()
    if ray is None:
        return 0
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])
    own = this_node()
    platform = hashlib.sha256(f"{settings.home} {settings.database}".encode()).hexdigest()[:16]
    chosen = [own, *(node for node in nodes if node != own)][:MOST_PEERS]
    for node in chosen:
        ray.remote(NodePeer).options(
            name=f"log-peer-{platform}-{node}",
            namespace=_NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(settings)
    return len(nodes)

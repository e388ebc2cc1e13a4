"""The simulated spot market: tells the nodes whose time is up, and takes them away without asking.

Knows how Ray is told that a node is to go (as a cloud's notice is), and that its processes are killed
then; it does not know when a node's time is up (`spot_trace`), nor who starts another (Ray's autoscaler).
"""

import contextlib
import importlib
import logging
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from rayplat.cluster.local.node_records import SimulatedNode, read_nodes
from rayplat.cluster.local.spot_trace import Tell, due, next_look_s, stay_s
from rayplat.cluster.spec import SpotTrace

_LOOK_S = 0.5
_log = logging.getLogger(__name__)


class SpotMarket:
    """Takes the spot nodes of one simulated cluster away.

    Args:
        trace: how long they stay.
        folder: where the nodes are written down; the number of those that came is kept there too, so
            that the trace goes on when the autoscaler was killed.
        gcs_address: of the control store that is told.
    """

    def __init__(self, trace: SpotTrace, folder: Path, gcs_address: str) -> None:
        self._trace = trace
        self._folder = folder
        self._gcs_address = gcs_address
        self._told: set[str] = set()
        self._counting = threading.Lock()

    def start(self) -> None:
        """Take nodes away from now on, until the process ends."""
        threading.Thread(target=self._run, name="spot market", daemon=True).start()

    def end_of_next(self) -> float:
        """When the spot node that has come just now goes, s since the epoch."""
        with self._counting:
            counter = self._folder / "spot_nodes"
            nth = int(counter.read_text()) if counter.exists() else 0
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            counter.write_text(str(nth + 1))
        return time.time() + stay_s(self._trace, nth)

    def step(self, now: float) -> float:
        """Do what is due. Returns for how long nothing more is, s."""
        nodes = {n: node for n, node in read_nodes(self._folder).items() if node.goes_at and node.alive()}
        goes_at = {node_id: node.goes_at for node_id, node in nodes.items() if node.goes_at}
        self._told &= goes_at.keys()
        for one in due(goes_at, self._told, self._trace.notice_s, now):
            if isinstance(one, Tell):
                self._tell(one)
            else:
                _kill(nodes[one.node_id])
                _log.warning("spot node %s was taken away", one.node_id)
        return next_look_s(goes_at.values(), self._trace.notice_s, now, _LOOK_S)

    def _run(self) -> None:
        while True:
            time.sleep(self.step(time.time()))

    def _tell(self, one: Tell) -> None:
        # Made of C++ and of protobuf files: neither has types.
        raylet: Any = importlib.import_module("ray._raylet")
        messages: Any = importlib.import_module("ray.core.generated.autoscaler_pb2")
        reason = messages.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        try:
            raylet.GcsClient(address=self._gcs_address).drain_node(
                one.node_id, reason, "the spot market takes it away", int(one.at * 1000)
            )
        # The control store may be away for a moment: the next step tells again.
        except Exception as error:
            _log.warning("spot node %s could not be told: %s", one.node_id, error)
            return
        self._told.add(one.node_id)
        _log.warning("spot node %s goes in %.1f s", one.node_id, one.at - time.time())


def _kill(node: SimulatedNode) -> None:
    """End everything of a node at once, as the power of a machine does."""
    alive = []
    for one in node.processes:
        if one.alive():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(one.pid)
                alive += [*process.children(recursive=True), process]
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()

"""The node provider of the simulated cluster: a node is a raylet on this machine.

Knows how a simulated node is started, found again and ended; it does not know when (Ray's autoscaler
does). Ray's own fake provider is what it stands on. Its own are five things: ids that are unique, nodes
that outlive a killed autoscaler, a time that a node takes to come, an end that reaches exactly the
processes of the node, and a spot market that takes nodes away.
"""

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from rayplat.cluster.caps.nodes import Capped
from rayplat.cluster.local.autoscaler import new_node_id
from rayplat.cluster.local.node_records import SimulatedNode, forget_node, read_nodes, write_node
from rayplat.cluster.local.spot_market import SpotMarket
from rayplat.cluster.processes import ProcessRecord, end
from rayplat.cluster.spec import SpotTrace
from rayplat.cluster.spec.markets import MARKET_LABEL
from rayplat.core.settings_environment import set_for_sdk

_AT_ONCE = 2
"""Nodes that start at a time: one that hangs holds up no other, and the machine is not flooded."""

_APART_S = 0.7
_log = logging.getLogger(__name__)
_LOGS = ("--stdout_filepath=", "--stderr_filepath=")


class SimulatedNodes(Capped, FakeMultiNodeProvider):
    """Simulated nodes, as the autoscaler sees them.

    Args:
        provider_config: the `provider` part of the autoscaler's configuration.
        cluster_name: the cluster's name.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        # Asked for by Ray's fake provider. The head must not have it: Ray would give it a fixed id.
        set_for_sdk({"RAY_FAKE_CLUSTER": "1"})
        super().__init__(provider_config, cluster_name)
        self._folder = Path(provider_config["folder"])
        self._boot_s = float(provider_config["boot_s"])
        self._numbering = threading.Lock()
        self._started_at = 0.0
        self._slots = threading.Semaphore(_AT_ONCE)
        self._nodes[self._head_node_id]["tags"][TAG_RAY_USER_NODE_TYPE] = provider_config["head_node_type"]
        for node_id, node in read_nodes(self._folder).items():
            if node.alive():
                self._nodes[node_id] = {"tags": dict(node.tags)}
            else:
                self._end(node)
        trace = provider_config.get("spot_trace")
        self._market = (
            SpotMarket(SpotTrace(**trace), self._folder, str(self._gcs_address))
            if trace is not None
            else None
        )
        if self._market is not None:
            self._market.start()

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """The nodes that run; one whose raylet was killed is gone, and its record with it."""
        written = read_nodes(self._folder)
        with self.lock:
            for node_id in [one for one in self._nodes if one != self._head_node_id]:
                if node_id in written and not written[node_id].alive():
                    del self._nodes[node_id]
                    self._end(written[node_id])
        return list(super().non_terminated_nodes(tag_filters))  # type: ignore[no-untyped-call]

    def terminate_node(self, node_id: str) -> None:
        """End a node and everything that runs on it."""
        with self.lock:
            self._nodes.pop(node_id, None)
        node = read_nodes(self._folder).get(node_id)
        if node is not None:
            self._end(node)

    def _end(self, node: SimulatedNode) -> None:
        alive = []
        for one in node.processes:
            if one.alive():
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(one.pid)
                    alive += [process, *process.children(recursive=True)]
        end(alive)
        forget_node(self._folder, node.node_id)

    def _create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:
        node_id = new_node_id()
        all_tags = {
            TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
            TAG_RAY_NODE_NAME: node_id,
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
            **tags,
        }
        # As in a cloud, the node is listed before Ray runs on it: a Ray node that the autoscaler cannot
        # match would be taken for a stranger, and the request for it would stay open for ever.
        with self.lock:
            self._nodes[node_id] = {"tags": all_tags}
        threading.Thread(
            target=self._boot,
            args=(node_id, all_tags, resources, labels),
            name=f"boot {node_id}",
            daemon=True,
        ).start()

    def _boot(
        self, node_id: str, tags: dict[str, str], resources: dict[str, float], labels: dict[str, str]
    ) -> None:
        """Start the node's processes; one that does not come is listed no more, and is asked for anew."""
        time.sleep(self._boot_s)
        with self._slots:
            self._stagger()
            try:
                node = Node(
                    _parameters(
                        str(self._gcs_address), node_id, tags[TAG_RAY_USER_NODE_TYPE], resources, labels
                    ),
                    head=False,
                    shutdown_at_exit=False,
                    spawn_reaper=False,
                )
            except Exception as error:
                _log.warning("simulated node %s did not come: %s", node_id, error)
                end(_remains(node_id))
                with self.lock:
                    self._nodes.pop(node_id, None)
                return
        processes, logs = _processes(node)
        market = self._market if labels.get(MARKET_LABEL) == "spot" else None
        started = SimulatedNode(
            node_id, tags, processes, logs, None if market is None else market.end_of_next()
        )
        write_node(self._folder, started)
        with self.lock:
            wanted = node_id in self._nodes
        if not wanted:  # it was ended while it started
            self._end(started)

    def _stagger(self) -> None:
        """Ray numbers a node's log files by those that are there: two that start at once would share them."""
        with self._numbering:
            time.sleep(max(0.0, self._started_at + _APART_S - time.monotonic()))
            self._started_at = time.monotonic()


def _remains(node_id: str) -> list[psutil.Process]:
    """What a node that did not come has left: our children that know its id, and theirs."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(node_id in part for part in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def _parameters(
    gcs_address: str, node_id: str, node_type: str, resources: dict[str, float], labels: dict[str, str]
) -> RayParams:
    own = dict(resources)
    return RayParams(
        min_worker_port=0,
        max_worker_port=0,
        dashboard_port=None,
        dashboard_agent_listen_port=0,
        # The head's reads the same folder. Ray takes a flag here, and says that it is text.
        include_log_monitor=False,  # type: ignore[arg-type]
        num_cpus=int(own.pop("CPU", 0)),
        num_gpus=int(own.pop("GPU", 0)),
        memory=own.pop("memory", None),
        object_store_memory=own.pop("object_store_memory", None),
        resources=own,
        labels=labels,
        redis_address=gcs_address,
        gcs_address=gcs_address,
        env_vars={
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id,
            "RAY_CLOUD_INSTANCE_ID": node_id,
            "RAY_NODE_TYPE_NAME": node_type,
        },
    )


def _processes(node: Node) -> tuple[tuple[ProcessRecord, ...], tuple[str, ...]]:
    """What a node consists of: its processes with their start times, and the names of their logs."""
    processes, logs = [], []
    for kind, infos in node.all_processes.items():
        for info in infos:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(info.process.pid)
                processes.append(ProcessRecord(kind, process.pid, process.create_time()))
                logs += [Path(a.partition("=")[2]).name for a in process.cmdline() if a.startswith(_LOGS)]
    return tuple(processes), tuple(sorted(set(logs)))

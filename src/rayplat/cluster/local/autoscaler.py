"""What Ray's autoscaler is told on this machine: the cluster file's node types as simulated nodes.

Knows the autoscaler's configuration and the variables that make its version 2 accept a simulated head;
it does not know how a node is started (`provider`).
"""

import json
import os
from pathlib import Path
from typing import Any

from rayplat.cluster.caps.config import GROUP_OF, LIMITS
from rayplat.cluster.spec import ClusterSpec, NodeType, node_types, worker_limit

PROVIDER = "rayplat.cluster.local.provider.SimulatedNodes"
STORE_BYTES = 80 * 2**20
"""Object store of a simulated node: Ray takes no less than 75 MiB, and all of them share one machine."""


def new_node_id() -> str:
    """A node's id as Ray makes them: unique, so that the history can tell nodes of two sessions apart."""
    return os.urandom(28).hex()


def autoscaling_config(
    spec: ClusterSpec, *, gcs_address: str, head_id: str, head_cpus: float, head_gpus: float, folder: Path
) -> dict[str, Any]:
    """The configuration for `ray start --autoscaling-config`.

    Args:
        gcs_address: where the head's control store will answer.
        head_id: the head's node id.
        folder: where the provider writes its nodes down.
    """
    # There is no spot market here that could have nothing, and so no node that would stand in for another.
    head, *workers = node_types(spec, stand_in=False)
    speedups = spec.local.speedups
    types = {
        head.name: {
            "resources": {"CPU": head_cpus, **({"GPU": head_gpus} if head_gpus else {})},
            "min_workers": 0,
            "max_workers": 0,
            "node_config": {},
        },
        **{node_type.name: _worker(node_type, speedups.idle_timeout_s) for node_type in workers},
    }
    return {
        "cluster_name": spec.name,
        "max_workers": worker_limit(spec),
        "upscaling_speed": spec.upscaling_speed,
        "idle_timeout_minutes": (speedups.idle_timeout_s or spec.idle_timeout_s) / 60,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "gcs_address": gcs_address,
            "head_node_id": head_id,
            "head_node_type": head.name,
            "launch_multiple": True,
            "folder": str(folder),
            "boot_s": speedups.boot_s,
            **({"spot_trace": spec.local.spot_trace.model_dump()} if spec.local.spot_trace else {}),
            # While a node that was told to go is there, Ray would start another beside it.
            GROUP_OF: {node_type.name: node_type.group for node_type in workers},
            LIMITS: {name: group.max for name, group in spec.workers.items()},
            # Ray would log in to each node by SSH, and install itself there.
            "disable_node_updaters": True,
        },
        "available_node_types": types,
        "head_node_type": head.name,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        "no_restart": False,
        "setup_commands": [],
        "initialization_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


def _worker(node_type: NodeType, idle_timeout_s: float | None) -> dict[str, Any]:
    return {
        "resources": {**node_type.resources, "object_store_memory": STORE_BYTES},
        "labels": node_type.labels,
        "min_workers": node_type.min,
        "max_workers": node_type.max,
        "idle_timeout_s": idle_timeout_s or node_type.idle_timeout_s,
        "priority": node_type.priority,
        "node_config": {},
    }


def write_config(config: dict[str, Any], path: Path) -> None:
    """Write the configuration for `ray start`; JSON is YAML too."""
    path.write_text(json.dumps(config, indent=1))


def head_environment(spec: ClusterSpec, head_id: str) -> dict[str, str]:
    """The variables with which the autoscaler takes the head for one of its own nodes."""
    return {
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": head_id,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": head_id,
        "RAY_NODE_TYPE_NAME": spec.head[0],
        "AUTOSCALER_UPDATE_INTERVAL_S": str(max(1, round(spec.local.speedups.autoscaler_s))),  # whole seconds
    }

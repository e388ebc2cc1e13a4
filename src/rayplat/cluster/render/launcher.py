"""What the launcher files of AWS and GCP share: limits, node types, resources and labels.

Knows the words of Ray's cluster launcher; it does not know a cloud's.
"""

from collections.abc import Callable
from typing import Any

from rayplat.cluster.spec import ClusterSpec, NodeType, node_types

NodeConfig = Callable[[NodeType], dict[str, Any]]


def without_skipped(spec: ClusterSpec, target: str) -> ClusterSpec:
    """The spec without the groups that a target leaves out; `target` is aws, gcp or kubernetes."""
    kept = {name: group for name, group in spec.groups.items() if not getattr(group, target).skip}
    return spec.model_copy(update={"groups": kept})


def limits(spec: ClusterSpec) -> dict[str, Any]:
    """Name, limits and speed of a cluster."""
    return {
        "cluster_name": spec.name,
        "max_workers": sum(group.max for group in spec.workers.values()),
        "upscaling_speed": spec.upscaling_speed,
        "idle_timeout_minutes": spec.idle_timeout_s / 60,
        # Ray does not read this; it tells a reader what the limits of the node types come from.
        "metadata": {
            "groups": {
                name: {"max": group.max, "spot_share": group.spot.share, "fallback": group.spot.fallback}
                for name, group in spec.groups.items()
            }
        },
    }


def available_node_types(spec: ClusterSpec, node_config: NodeConfig) -> dict[str, Any]:
    """The node types as the autoscaler reads them; the head's type starts no workers."""
    head = spec.head[0]
    return {
        kind.name: {
            "resources": dict(kind.resources),
            "labels": dict(sorted(kind.labels.items())),
            "min_workers": 0 if kind.name == head else kind.min,
            "max_workers": 0 if kind.name == head else kind.max,
            "priority": kind.priority,
            "idle_timeout_s": kind.idle_timeout_s,
            "node_config": node_config(kind),
        }
        for kind in node_types(spec)
    }


def notes(spec: ClusterSpec) -> list[str]:
    """What a reader of a launcher file must know of its limits."""
    mixed = [n for n, g in spec.workers.items() if g.spot_max and g.spot.fallback == "on-demand"]
    if not mixed:
        return []
    return [
        f"On-demand nodes may stand in for spot in: {', '.join(mixed)}. The limits of their two node types",
        "add up to more than the group's max, which the head holds for both together (metadata.groups).",
    ]

"""Groups read back from a rendered file, to be compared with those of the spec.

Knows each target's own words for a node type; it shares nothing with what renders them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayplat.cluster.check.finding import Finding, failed, passed
from rayplat.cluster.spec import ClusterSpec, NodeGroup

Documents = list[dict[str, Any]]
_MARKET = "ray.io/market-type"
_GROUP = "rayplat.group"


@dataclass(frozen=True, slots=True)
class Shape:
    """What must survive of a group on its way to a target.

    `spot` is the most nodes on the spot market; `stand_in` whether on-demand ones may replace them.
    """

    head: bool
    min: int
    max: int
    spot: int
    stand_in: bool
    idle_timeout_s: float
    labels: Mapping[str, str]
    resources: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Node:
    """One node type as a target's file has it."""

    spot: bool
    min: int
    max: int
    idle_timeout_s: float
    labels: dict[str, str]
    resources: dict[str, float]
    accepts_both: bool = False
    head: bool = False


def shape_of(spec: ClusterSpec, name: str, group: NodeGroup) -> Shape:
    """What the spec says of a group."""
    return Shape(
        head=group.kind == "head",
        min=group.min,
        max=group.max,
        spot=group.spot_max,
        stand_in=bool(group.spot_max) and group.spot.fallback == "on-demand",
        idle_timeout_s=spec.idle_timeout_of(name),
        labels=dict(group.labels),
        resources=group.resources,
    )


def read_launcher(document: dict[str, Any]) -> dict[str, Shape]:
    """The groups of a launcher file (aws, gcp, local), by name."""
    nodes: dict[str, list[_Node]] = {}
    head = document["head_node_type"]
    for name, kind in document["available_node_types"].items():
        config = kind["node_config"]
        spot = _is_spot(document["provider"]["type"], config, kind["labels"])
        is_head = name == head
        node = _Node(
            spot=spot,
            min=1 if is_head else kind["min_workers"],
            max=1 if is_head else kind["max_workers"],
            idle_timeout_s=kind["idle_timeout_s"],
            labels=dict(kind["labels"]),
            resources=dict(kind["resources"]),
            head=is_head,
        )
        nodes.setdefault(kind["labels"][_GROUP], []).append(node)
    groups = document["metadata"]["groups"]
    return {
        name: _merged(found, stand_in=groups[name]["fallback"] == "on-demand", adds_up=False)
        for name, found in nodes.items()
    }


def _is_spot(provider: str, config: dict[str, Any], labels: dict[str, str]) -> bool:
    if provider == "aws":
        return bool(config.get("InstanceMarketOptions", {}).get("MarketType") == "spot")
    if provider == "gcp":
        return bool(config.get("scheduling", {}).get("provisioningModel") == "SPOT")
    return labels[_MARKET] == "spot"


def read_kuberay(spec: dict[str, Any]) -> dict[str, Shape]:
    """The groups of a Ray cluster's spec, by name."""
    idle = spec["autoscalerOptions"]["idleTimeoutSeconds"]
    nodes: dict[str, list[_Node]] = {}
    head = spec["headGroupSpec"]
    head_group = head["labels"][_GROUP]
    nodes[head_group] = [_Node(False, 1, 1, idle, dict(head["labels"]), _amounts(head), head=True)]
    for group in spec["workerGroupSpecs"]:
        affinity = group["template"]["spec"].get("affinity", {}).get("nodeAffinity", {})
        node = _Node(
            spot=group["labels"][_MARKET] == "spot",
            min=group["minReplicas"],
            max=group["maxReplicas"],
            idle_timeout_s=group["idleTimeoutSeconds"],
            labels=dict(group["labels"]),
            resources=_amounts(group),
            accepts_both="preferredDuringSchedulingIgnoredDuringExecution" in affinity,
        )
        nodes.setdefault(group["labels"][_GROUP], []).append(node)
    return {
        name: _merged(found, stand_in=any(node.accepts_both for node in found), adds_up=True)
        for name, found in nodes.items()
    }


def _amounts(group: dict[str, Any]) -> dict[str, float]:
    return {name: float(amount) for name, amount in group["resources"].items()}


def _merged(nodes: list[_Node], *, stand_in: bool, adds_up: bool) -> Shape:
    """One group from its node types; without `adds_up`, on-demand nodes that stand in have all its limit."""
    spot = sum(node.max for node in nodes if node.spot)
    on_demand = sum(node.max for node in nodes if not node.spot)
    stand_in = stand_in and spot > 0
    return Shape(
        head=any(node.head for node in nodes),
        min=sum(node.min for node in nodes),
        max=on_demand if stand_in and not adds_up else spot + on_demand,
        spot=spot,
        stand_in=stand_in,
        idle_timeout_s=nodes[0].idle_timeout_s,
        labels={k: v for k, v in nodes[0].labels.items() if k not in (_GROUP, _MARKET)},
        resources=nodes[0].resources,
    )


def compare(target: str, spec: ClusterSpec, found: Mapping[str, Shape]) -> list[Finding]:
    """Whether every group of the spec came through, and no other; one finding for each group that did not."""
    faults = []
    for name in sorted(set(spec.groups) | set(found)):
        wanted = shape_of(spec, name, spec.groups[name]) if name in spec.groups else None
        if wanted == found.get(name):
            continue
        faults.append(
            failed(
                target,
                "groups",
                f"group {name!r} does not come through: {_difference(wanted, found.get(name))}",
                f"run `rayplat cluster render {target}`",
            )
        )
    return faults or [
        passed(target, "groups", f"{len(found)} groups with limits, spot mix, labels, resources")
    ]


def _difference(wanted: Shape | None, found: Shape | None) -> str:
    if wanted is None or found is None:
        return "it is not in the cluster file" if wanted is None else "it is missing"
    names = Shape.__slots__
    parts = [(name, getattr(wanted, name), getattr(found, name)) for name in names]
    return "; ".join(f"{name} is {there!r}, not {here!r}" for name, here, there in parts if here != there)

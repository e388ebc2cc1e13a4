"""Node types: what the autoscaler is told, one for each group and market.

Knows how a spot share becomes two node types with limits; it does not know a target's words for them.
"""

from dataclasses import dataclass
from typing import Literal

from rayplat.cluster.spec.cluster import ClusterSpec
from rayplat.cluster.spec.groups import NodeGroup

Market = Literal["spot", "on-demand"]
MARKET_LABEL = "ray.io/market-type"
GROUP_LABEL = "rayplat.group"
_LABEL_OF: dict[Market, str] = {"spot": "spot", "on-demand": "on-demand"}
SPOT_PRIORITY = 10
"""Among node types that would serve a demand equally well, the autoscaler starts the higher first."""


@dataclass(frozen=True, slots=True)
class NodeType:
    """One kind of node that the autoscaler may start.

    `max` of the two types of a group add up to the group's own, except where on-demand nodes may
    stand in for spot: there on-demand alone may reach it.
    """

    name: str
    group: str
    market: Market
    min: int
    max: int
    priority: int
    idle_timeout_s: float
    resources: dict[str, float]
    labels: dict[str, str]


def node_types(spec: ClusterSpec, *, stand_in: bool = True) -> list[NodeType]:
    """The node types of a cluster, the head's first.

    Args:
        spec: the cluster file.
        stand_in: on-demand nodes that replace spot are of the on-demand type (a cloud that buys one
            market at a time); else the spot type accepts either, and limits add up exactly.
    """
    head, group = spec.head
    found = [_type(spec, head, group, "on-demand", (1, 1))]
    for name, worker in spec.workers.items():
        spot = worker.spot_max
        spot_min = min(worker.min, spot)
        if spot:
            found.append(_type(spec, name, worker, "spot", (spot_min, spot)))
        alone = worker.max - spot
        most = worker.max if stand_in and worker.spot.fallback == "on-demand" else alone
        if most or not spot:
            found.append(_type(spec, name, worker, "on-demand", (worker.min - spot_min, most)))
    return found


def worker_limit(spec: ClusterSpec) -> int:
    """Workers that there are at most, all groups together."""
    return sum(group.max for group in spec.workers.values())


def _type(
    spec: ClusterSpec, name: str, group: NodeGroup, market: Market, limits: tuple[int, int]
) -> NodeType:
    return NodeType(
        name=f"{name}-spot" if market == "spot" else name,
        group=name,
        market=market,
        min=limits[0],
        max=limits[1],
        priority=SPOT_PRIORITY if market == "spot" else 0,
        idle_timeout_s=spec.idle_timeout_of(name),
        resources=group.resources,
        labels={**group.labels, GROUP_LABEL: name, MARKET_LABEL: _LABEL_OF[market]},
    )

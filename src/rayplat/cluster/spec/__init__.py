"""The cluster file, cluster/platform.yaml: the only file a platform engineer edits.

Knows only which public name lives where; a part is imported when one of its names is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayplat.cluster.spec.cluster import ClusterSpec
    from rayplat.cluster.spec.groups import NodeGroup, Spot
    from rayplat.cluster.spec.load import load_spec, parse_spec
    from rayplat.cluster.spec.markets import NodeType, node_types, worker_limit
    from rayplat.cluster.spec.money import BudgetSpec, OwnPrice, Prices, Team
    from rayplat.cluster.spec.sections import LocalSpec, PlatformSection, RayPin, Speedups, SpotTrace

_HOME_OF = {
    name: f"rayplat.cluster.spec.{module}"
    for module, names in {
        "cluster": ("ClusterSpec",),
        "groups": ("NodeGroup", "Spot"),
        "load": ("load_spec", "parse_spec"),
        "markets": ("NodeType", "node_types", "worker_limit"),
        "money": ("BudgetSpec", "OwnPrice", "Prices", "Team"),
        "sections": ("LocalSpec", "PlatformSection", "RayPin", "Speedups", "SpotTrace"),
    }.items()
    for name in names
}

__all__ = [
    "BudgetSpec",
    "ClusterSpec",
    "LocalSpec",
    "NodeGroup",
    "NodeType",
    "OwnPrice",
    "PlatformSection",
    "Prices",
    "RayPin",
    "Speedups",
    "Spot",
    "SpotTrace",
    "Team",
    "load_spec",
    "node_types",
    "parse_spec",
    "worker_limit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)

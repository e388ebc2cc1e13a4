"""cluster/local.yaml: the node types that `rayplat up` simulates on one machine.

Knows the shape of Ray's external node provider's file; it does not know how nodes are started.
"""

from typing import Any

from rayplat.cluster.local.autoscaler import PROVIDER
from rayplat.cluster.render.launcher import available_node_types, limits, notes
from rayplat.cluster.render.text import rendered
from rayplat.cluster.spec import ClusterSpec

_NOTES = (
    "`rayplat up` makes its own from the same node types, and adds what is of one start: addresses, folders.",
    "GPUs are resources that are promised, not devices.",
)


def render_local(spec: ClusterSpec) -> str:
    """The text of cluster/local.yaml."""
    return rendered("local", [local_document(spec)], [*_NOTES, *notes(spec)])


def local_document(spec: ClusterSpec) -> dict[str, Any]:
    """The file as a value: what is the same for every start on every machine."""
    quick = spec.local.speedups.idle_timeout_s
    kinds = available_node_types(spec, lambda _: {})
    if quick is not None:
        kinds = {name: {**kind, "idle_timeout_s": quick} for name, kind in kinds.items()}
    return {
        **limits(spec),
        **({"idle_timeout_minutes": quick / 60} if quick is not None else {}),
        "provider": {"type": "external", "module": PROVIDER},
        "available_node_types": kinds,
        "head_node_type": spec.head[0],
    }

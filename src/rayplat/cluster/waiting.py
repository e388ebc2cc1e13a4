"""Why a demand waits: a pure answer from the shapes of the node groups and the nodes that there are.

Knows sizes and limits; it does not know who asks, nor does it start a node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TINY = 1e-9
_ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True, slots=True)
class Shape:
    """A node type: what a node of it has, how many there are, start now, and may be at most."""

    name: str
    resources: Mapping[str, float]
    running: int
    starting: int
    most: int


def why_waiting(asked: Mapping[str, float], shapes: Sequence[Shape]) -> str:
    """Why a request of this size is not met yet.

    Args:
        asked: resources of one request.
        shapes: every node type of the cluster, the head's included.
    """
    known = {name for shape in shapes for name in shape.resources}
    missing = sorted(name for name, amount in asked.items() if amount > _TINY and name not in known)
    if missing:
        return f"no group has the resource {', '.join(_plain(name) for name in missing)}"
    fitting = [s for s in shapes if all(s.resources.get(k, 0.0) + _TINY >= v for k, v in asked.items())]
    if not fitting:
        return f"no node is large enough: {_largest(asked, shapes)}"
    starting = [f"{s.starting} of {s.name}" for s in fitting if s.starting]
    if starting:
        return f"launching {', '.join(starting)}"
    full = [s for s in fitting if s.running >= s.most]
    if len(full) == len(fitting):
        return f"at max: {', '.join(f'{s.name} has {s.running} of {s.most}' for s in full)}"
    room = next(s for s in fitting if s.running < s.most)
    return f"a node of {room.name} may start; the autoscaler has not asked for it yet"


def _largest(asked: Mapping[str, float], shapes: Sequence[Shape]) -> str:
    parts = []
    for name, amount in sorted(asked.items()):
        best = max(shapes, key=lambda s: s.resources.get(name, 0.0))
        has = best.resources.get(name, 0.0)
        if has + _TINY < amount:
            parts.append(f"{_plain(name)} {amount:g} is asked, and {best.name} has {has:g}")
    return "; ".join(parts) or "each resource exists, but not together on one node"


def _plain(name: str) -> str:
    return name.removeprefix(_ACCELERATOR) if name.startswith(_ACCELERATOR) else name

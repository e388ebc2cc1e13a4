"""The simulated nodes of a machine, written down: a file a node, with its processes.

Knows the files; it does not know how a node is started or ended. An autoscaler that was killed and
started again finds its nodes here, where Ray's own fake provider would have forgotten them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rayplat.cluster.processes import ProcessRecord


@dataclass(frozen=True, slots=True)
class SimulatedNode:
    """A simulated node: the autoscaler's tags of it, its processes and the folder-relative log names.

    `goes_at`: when the spot market takes it away, s since the epoch; None where it stays.
    """

    node_id: str
    tags: Mapping[str, str]
    processes: tuple[ProcessRecord, ...]
    logs: tuple[str, ...] = ()
    goes_at: float | None = None

    def alive(self) -> bool:
        """Whether its raylet runs."""
        return any(one.name == "raylet" and one.alive() for one in self.processes)


def write_node(folder: Path, node: SimulatedNode) -> None:
    """Write a node down; the file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{node.node_id}.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(node)))
    draft.replace(path)


def read_nodes(folder: Path) -> dict[str, SimulatedNode]:
    """Every node that is written down, by id; the dead ones included."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        raw = json.loads(path.read_text())
        processes = tuple(ProcessRecord(**one) for one in raw["processes"])
        found[raw["node_id"]] = SimulatedNode(
            raw["node_id"], raw["tags"], processes, tuple(raw["logs"]), raw.get("goes_at")
        )
    return found


def forget_node(folder: Path, node_id: str) -> None:
    """Remove a node's file."""
    (folder / f"{node_id}.json").unlink(missing_ok=True)

"""`rayplat passport`: from a prediction back to where its data came from.

Knows how the tree is shown; it does not know how it is traced.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import cell
from rayplat.cli.parameters import ProjectAddress
from rayplat.core.ids import parse_prediction_id

if TYPE_CHECKING:
    from rich.tree import Tree

    from rayplat.governance.node import Node, Passport

app = single()

_STYLE = {"established": "bold", "unknown": "bold yellow", "broken": "bold red"}


@command(app)
def passport(
    call: Call,
    prediction_id: Annotated[str, typer.Argument(metavar="PREDICTION_ID", show_default=False)],
    project: ProjectAddress,
) -> None:
    """Trace a prediction from its request to the offsets of its sources; digests are verified now."""
    wanted = parse_prediction_id(prediction_id)
    from rayplat.governance.passport import build_passport
    from rayplat.serve.prediction_log import PredictionLog

    loaded = call.project(project)
    platform = call.platform()
    PredictionLog(platform.settings).drain(platform.lake, platform.settings, platform.bus)
    found = build_passport(platform.lake, platform.registry, platform.audit, loaded, wanted)
    call.show(found, lambda: passport_tree(found))


def passport_tree(passport: "Passport") -> "Tree":
    """A passport as a Rich tree: a branch a node, a leaf a fact; what is not established stands out."""
    return _tree(passport.root, None)


def _tree(node: "Node", parent: "Tree | None") -> "Tree":
    from rich.text import Text
    from rich.tree import Tree

    state = "" if node.state == "established" else f" ({node.state})"
    label = Text.assemble((f"{node.kind}{state}", _STYLE[node.state]), "  ", node.title)
    branch = parent.add(label) if parent is not None else Tree(label)
    for name, value in node.facts.items():
        branch.add(Text.assemble((f"{name}: ", "dim"), cell(value)))
    for child in node.children:
        _tree(child, branch)
    return branch

"""`rayplat project`: does a project hold together?

Knows how the answer is shown; what is checked is known in `core.project.validate`.
"""

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import fields
from rayplat.cli.parameters import ProjectAddress

app = group("Check a project.")


@command(app)
def check(call: Call, project: ProjectAddress) -> None:
    """Load a project and tell every fault at once, or what it declares."""
    loaded = call.project(project)
    found = {
        "project": loaded.name,
        "owner": loaded.owner,
        "address": project,
        "tables": [t.name for t in loaded.tables],
        "views": {v.name: len(v.features) for v in loaded.views},
        "models": [m.name for m in loaded.models],
        "endpoints": [e.name for e in loaded.endpoints],
        "monitors": [m.name for m in loaded.monitors],
    }
    call.show(found, lambda: fields({**found, "faults": "none"}))

"""`rayplat data plan` and `rayplat data apply`: the lake's tables made what the project declares.

Knows how plans are shown; it does not know which changes a table allows.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call, command
from rayplat.cli.output import table
from rayplat.cli.parameters import ProjectAddress

if TYPE_CHECKING:
    from rayplat.data.lakehouse.migration import ProjectPlan

AllowDrop = Annotated[
    bool, typer.Option("--allow-drop", help="Drop columns that are no longer declared.", show_default=False)
]


def add(app: typer.Typer) -> None:
    """Declare the commands on the group `data`."""
    command(app)(plan)
    command(app)(apply)


def plan(call: Call, project: ProjectAddress, allow_drop: AllowDrop = False) -> None:
    """Show what would change to make the tables what the project declares; exit code 1: it is refused."""
    from rayplat.data.lakehouse.migration import plan_project

    tables = call.project(project).tables
    _show(call, plan_project(call.platform().lake, tables, allow_drop=allow_drop))


def apply(call: Call, project: ProjectAddress, allow_drop: AllowDrop = False) -> None:
    """Make the tables what the project declares; where one cannot become that, none is changed."""
    from rayplat.data.lakehouse.migration import apply_project

    tables = call.project(project).tables
    _show(call, apply_project(call.platform().lake, tables, allow_drop=allow_drop))


def _show(call: Call, found: "ProjectPlan") -> None:
    data = {
        "applied": found.applied,
        "refused": found.refused,
        "tables": found.tables,
        "undeclared": found.undeclared,
    }
    call.show(data, lambda: _text(found))
    if found.refused:
        raise typer.Exit(1)


def _text(found: "ProjectPlan") -> Any:
    from rich.console import Group
    from rich.text import Text

    rows = [
        [one.table, mark, text]
        for one in found.tables
        for mark, text in [
            *((step.kind, step.what) for step in one.steps),
            *(("refused", reason) for reason in one.refused),
        ]
    ]
    rows += [[name, "undeclared", "left as it is"] for name in found.undeclared]
    return Group(table(["table", "change", "what"], rows, "changes"), Text(_summary(found)))


def _summary(found: "ProjectPlan") -> str:
    refused = sum(bool(one.refused) for one in found.tables)
    changed = sum(bool(one.steps) for one in found.tables)
    if refused:
        return f"{refused} of {len(found.tables)} tables cannot become what is declared: nothing was changed"
    if found.applied:
        return f"{changed} of {len(found.tables)} tables were changed"
    return f"{changed} of {len(found.tables)} tables would be changed by `rayplat data apply`"

"""`rayplat exec`: a command where the platform runs.

Knows how it is asked for; running it is known in `cluster.execute`.
"""

import sys
from typing import Annotated

import typer

from rayplat.cli.command import Call, command, single

app = single()

Command = Annotated[
    list[str],
    typer.Argument(metavar="-- COMMAND…", help="The program and its arguments.", show_default=False),
]
Node = Annotated[
    str, typer.Option("--node", metavar="ID", help="A node's id, or its beginning.", show_default="the head")
]


@command(app, "exec")
def exec_(call: Call, argv: Command, node: Node = "") -> None:
    """Run a command on the head, or on a node, in the platform's environment; exits with its exit code."""
    from rayplat.cluster.execute import execute_here, execute_on

    settings = call.settings()
    if node or settings.ray.address:
        code = execute_on(settings, node, argv, _write)
    else:
        code = execute_here(settings, argv)
    if code:
        raise typer.Exit(code)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

"""`rayplat logs`: what the platform's processes on this machine have written.

Knows how lines are shown; the files are known in `cluster.logs`.
"""

import contextlib
from typing import Annotated

import typer

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import table

app = single()

Name = Annotated[
    str,
    typer.Argument(
        metavar="[NODE|COMPONENT]",
        help="gcs, autoscaler, supervisor, …, or a node's id.",
        show_default="list",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written.")]
Lines = Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each file.")]


@command(app)
def logs(call: Call, name: Name = "", follow: Follow = False, lines: Lines = 100) -> None:
    """Show the logs of a component or of a node; without a name, what there is."""
    from rayplat.cluster.logs import chosen, log_files, short, tail
    from rayplat.cluster.logs import follow as follow_files

    files = log_files(call.settings())
    if not name:
        rows = [
            (short(key), len(paths), sum(p.stat().st_size for p in paths)) for key, paths in files.items()
        ]
        call.show(
            [{"name": key, "files": [str(p) for p in paths]} for key, paths in files.items()],
            lambda: table(["name", "files", "bytes"], rows, title="logs"),
        )
        return
    paths = chosen(files, name)
    with contextlib.suppress(KeyboardInterrupt):
        for line in follow_files(paths, lines) if follow else tail(paths, lines):
            typer.echo(line)

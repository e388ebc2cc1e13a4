"""`rayplat run`: the whole loop of a project.

Knows how the loop is shown (progress, passport, page); the steps are known in `delivery.pipeline`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import Format, console, fields
from rayplat.core.errors import RayplatError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rayplat.delivery.pipeline import LoopReport

app = single()

Address = Annotated[
    str,
    typer.Argument(metavar="PROJECT", help="A folder, a .py file, or package.module.", show_default=False),
]


@command(app)
def run(call: Call, project: Address) -> None:
    """From events to a traced prediction. Killed or ended and run again, it continues where it was."""
    from rayplat.cli.progress import open_progress
    from rayplat.core import plugins
    from rayplat.delivery.pipeline import run_loop

    loaded = call.project(project)
    platform = call.platform()
    with open_progress(console(stderr=call.form is Format.JSON)) as progress:
        report = run_loop(platform, loaded, progress)
    page: Path = plugins.load("page", "loop")(
        platform, report, platform.settings.home / f"{loaded.name}.html"
    )
    call.show(_plain(report, page), lambda: _text(report, page))


def _plain(report: "LoopReport", page: Path) -> dict[str, Any]:
    return {
        "project": report.project.name,
        "model": report.model.name,
        "seconds": report.seconds,
        "history": report.history,
        "training_set": report.training_set,
        "version": report.outcome.version if report.outcome else None,
        "metrics": report.outcome.metrics if report.outcome else {},
        "baselines": report.outcome.baselines if report.outcome else {},
        "endpoint": report.endpoint,
        "asked": report.asked,
        "watched": report.watched,
        "passport": report.passport,
        "page": page,
    }


def _text(report: "LoopReport", page: Path) -> "RenderableType":
    from rich.console import Group

    from rayplat.cli.monitor import watched_text
    from rayplat.cli.passport import passport_tree

    if report.outcome is None or report.watched is None or report.passport is None:
        raise RayplatError(
            "the loop made no prediction", "declare a replay, or ask the endpoint and run again"
        )
    wall = sum(report.seconds.values())
    summary = fields(
        {
            "model": f"{report.model.name} version {report.outcome.version}",
            "endpoint": report.endpoint.url if report.endpoint else "-",
            "time": f"{wall:.0f} s",
            "page": str(page),
        }
    )
    return Group(watched_text(report.watched), passport_tree(report.passport), "", summary)

"""`rayplat features`: definitions, online values and lookups.

Knows how features are shown; it does not know how they are computed.
"""

from typing import Annotated

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import fields, listing
from rayplat.cli.parameters import At, ProjectAddress, parse_time, parse_values
from rayplat.core.errors import NotFoundError
from rayplat.core.project.project import Project
from rayplat.core.project.view import FeatureView, View

app = group("List, materialize and look up features.")


@command(app, "list")
def list_views(call: Call, project: ProjectAddress) -> None:
    """List the project's views, what they read, and the digest of each definition."""
    from rayplat.features.definition import digest

    found = [
        {
            "view": view.name,
            "kind": _kind(view),
            "source": view.source.name,
            "entity": list(view.entity) if isinstance(view, FeatureView) else [],
            "features": list(view.features),
            "inputs": list(view.inputs),
            "digest": digest(view),
        }
        for view in call.project(project).views
    ]
    call.show(found, lambda: listing([{**row, "digest": str(row["digest"])[:12]} for row in found]))


@command(app)
def materialize(
    call: Call,
    project: ProjectAddress,
    view: Annotated[list[str] | None, typer.Option(help="Only this view; may be repeated.")] = None,
) -> None:
    """Bring the online values up to the current snapshots; only what is new is read."""
    from rayplat.features.materialize import materialize as bring_up

    loaded = call.project(project)
    platform = call.platform()
    views = [_view(loaded, name) for name in view] if view else loaded.views
    reports = bring_up(platform.lake, platform.online, views, platform.bus)
    call.show(reports, lambda: listing(reports))


@command(app)
def get(
    call: Call,
    project: ProjectAddress,
    view: Annotated[str, typer.Argument(metavar="VIEW", show_default=False)],
    values: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", show_default=False)],
    at: At = None,
) -> None:
    """Look up the online values of one entity, and where each came from."""
    from rayplat.features.serving import get_online_features

    loaded = call.project(project)
    chosen = _view(loaded, view)
    request = parse_values(values, dict(chosen.source.columns))
    platform = call.platform()
    answer = get_online_features(platform.online, [chosen], [request], parse_time(at))
    found = {"features": answer.frame.to_dicts()[0], "provenance": answer.provenance[0]}
    call.show(found, lambda: fields({**found["features"], **found["provenance"]}))


def _kind(view: View) -> str:
    if isinstance(view, FeatureView):
        return "window" if view.windowed else "row"
    return "request"


def _view(project: Project, name: str) -> View:
    for view in project.views:
        if view.name == name:
            return view
    known = ", ".join(view.name for view in project.views)
    raise NotFoundError(f"the project has no view {name!r}", f"there is: {known}")

"""`rayplat features`: definitions, online values and lookups.

Knows how features are shown; it does not know how they are computed.
"""

from typing import Annotated

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.features_index import index
from rayplat.cli.features_prove import prove
from rayplat.cli.features_serve import serve
from rayplat.cli.features_versions import apply, diff, show, view_named
from rayplat.cli.output import fields, listing
from rayplat.cli.parameters import At, ProjectAddress, parse_time, parse_values
from rayplat.core.errors import UserError
from rayplat.core.project.table import Column
from rayplat.core.project.view import FeatureView, View, upstream

app = group("List, materialize and look up features.")
command(app)(index)
command(app)(show)
command(app)(diff)
command(app)(apply)
command(app)(prove)
command(app)(serve)


@command(app, "list")
def list_views(call: Call, project: ProjectAddress) -> None:
    """List the project's views, what they read, and the digest of each definition."""
    from rayplat.core.project.lineage import personal
    from rayplat.features.catalog import kind_of
    from rayplat.features.definition import digest_as_asked

    found = [
        {
            "view": view.name,
            "kind": kind_of(view),
            "source": None if view.source is None else view.source.name,
            "views": [one.name for one in upstream(view)],
            "entity": list(view.entity) if isinstance(view, FeatureView) else [],
            "features": list(view.features),
            "inputs": list(view.inputs),
            "owner": view.owner,
            "tags": dict(view.tags),
            "personal": personal(view),
            "digest": digest_as_asked(view),
        }
        for view in call.project(project).views
    ]
    call.show(found, lambda: listing([{**row, "digest": str(row["digest"])[:12]} for row in found]))


@command(app)
def materialize(
    call: Call,
    project: ProjectAddress,
    view: Annotated[list[str] | None, typer.Option(help="Only this view; may be repeated.")] = None,
    start: Annotated[str | None, typer.Option(help="Only rows with an event time from here on.")] = None,
    end: Annotated[str | None, typer.Option(help="Only rows with an event time before this.")] = None,
) -> None:
    """Bring the online values up to the current snapshots; only what is new is read.

    With --start and --end the rows of that stretch of event time are brought in, whatever was read before.
    """
    from rayplat.features.backfill import backfill
    from rayplat.features.materialize import materialize as bring_up

    loaded = call.project(project)
    platform = call.platform()
    views = [view_named(loaded, name) for name in view] if view else loaded.views
    if (start is None) != (end is None):
        raise UserError("--start and --end go together", "give both, or none of them")
    if start is not None and end is not None:
        reports = backfill(platform.lake, platform.online, views, parse_time(start), parse_time(end))
    else:
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
    chosen = view_named(loaded, view)
    request = parse_values(values, _columns(chosen))
    platform = call.platform()
    answer = get_online_features(platform.online, [chosen], [request], parse_time(at))
    found = {"features": answer.frame.to_dicts()[0], "provenance": answer.provenance[0]}
    call.show(found, lambda: fields({**found["features"], **found["provenance"]}))


def _columns(view: View) -> dict[str, Column]:
    """The columns that a question about the view may have, and their types."""
    from rayplat.features.requests import request_columns

    return {name: Column(kind) for name, kind in request_columns([view]).items()}

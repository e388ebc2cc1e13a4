"""`rayplat features index`: the kept index of a view, built, checked and cleared away.

Knows how indexes are asked for and shown; it does not know how they are made.
"""

from typing import Annotated

import typer

from rayplat.cli.command import Call
from rayplat.cli.output import listing
from rayplat.cli.parameters import ProjectAddress
from rayplat.core.errors import NotFoundError
from rayplat.core.project.view import FeatureView


def index(
    call: Call,
    project: ProjectAddress,
    view: Annotated[str, typer.Argument(metavar="VIEW", show_default=False)],
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Read all bytes and compare the digests.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete this table's indexes of other snapshots.")
    ] = False,
) -> None:
    """Index a view's source by entity and time, so that historical features are looked up, not joined."""
    from rayplat.features.index.indexes import Indexes
    from rayplat.features.lake import pin

    views = {v.name: v for v in call.project(project).views if isinstance(v, FeatureView)}
    if view not in views:
        raise NotFoundError(f"the project has no feature view {view!r}", f"there is: {', '.join(views)}")
    indexes = Indexes.of(call.settings())
    lake = call.platform().lake
    kept = indexes.build(views[view], lake)
    if verify:
        indexes.verify(kept)
    removed = indexes.remove_stale(pin(lake, [kept.table])) if prune else []
    found = {"index": kept, "removed": removed}
    call.show(found, lambda: listing([kept, *removed]))

"""`rayplat features show`, `diff` and `apply`: one view, and what has become of the definitions.

Knows how cards and changes are shown; it does not know how versions are kept.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call
from rayplat.cli.output import fields, listing, plain, vars_of
from rayplat.cli.parameters import ProjectAddress
from rayplat.core.errors import NotFoundError
from rayplat.core.project.project import Project
from rayplat.core.project.view import View

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rayplat.features.versions import Change
    from rayplat.registry.manifest import Manifest
    from rayplat.registry.uses import DefinitionUse
    from rayplat.wiring import Platform

ViewName = Annotated[str, typer.Argument(metavar="VIEW", show_default=False)]


def view_named(project: Project, name: str) -> View:
    """A view of the project.

    Raises:
        NotFoundError: there is none.
    """
    for view in project.views:
        if view.name == name:
            return view
    known = ", ".join(view.name for view in project.views) or "none"
    raise NotFoundError(f"the project has no view {name!r}", f"there is: {known}")


def show(call: Call, project: ProjectAddress, view: ViewName) -> None:
    """Show a view: definition, lineage, personal data, versions, who uses it, statistics, freshness."""
    from rayplat.features.catalog import card_of
    from rayplat.features.versions import FeatureVersions

    loaded = call.project(project)
    chosen = view_named(loaded, view)
    platform = call.platform()
    versions = FeatureVersions(platform.settings)
    card = card_of(chosen, loaded.name, versions, platform.lake, platform.online)
    numbers = {version.digest: version.version for version in card.versions}
    uses = [
        {"model": use.model, "version": use.version, "aliases": use.aliases, "uses": numbers.get(use.digest)}
        for use in _uses(platform)
        if use.view == view
    ]
    read_by = {model.name for model in loaded.models if view in {v.name for v in model.features}}
    endpoints = [e.name for e in loaded.endpoints if e.model in read_by]
    found = {
        **plain(card),
        "models": sorted(read_by),
        "endpoints": endpoints,
        "used_by": uses,
        "statistics": _statistics(platform, uses, chosen),
    }
    call.show(found, lambda: _card(found))


def diff(call: Call, project: ProjectAddress) -> None:
    """Show what `apply` would do: definitions that are new or changed, and models of former ones."""
    from rayplat.features.versions import FeatureVersions

    loaded = call.project(project)
    platform = call.platform()
    changes = FeatureVersions(platform.settings).compare(loaded)
    _show_changes(call, platform, changes)


def apply(call: Call, project: ProjectAddress) -> None:
    """Register the definitions that are new or changed as versions; again, it does nothing.

    Training applies the views of its model by itself.
    """
    from rayplat.features.versions import FeatureVersions

    loaded = call.project(project)
    platform = call.platform()
    changes = FeatureVersions(platform.settings).apply(loaded, platform.settings.user, bus=platform.bus)
    _show_changes(call, platform, changes)


def _show_changes(call: Call, platform: "Platform", changes: "list[Change]") -> None:
    uses = _uses(platform) if any(change.kind in ("changed", "gone") for change in changes) else []
    found: list[dict[str, Any]] = [
        {
            **vars_of(change),
            "models_of_former": sorted(
                {
                    f"{u.model} {u.version}"
                    for u in uses
                    if u.view == change.view and u.digest != change.digest
                }
            ),
        }
        for change in changes
    ]
    columns = ["view", "kind", "before", "version", "differences", "models_of_former"]
    call.show(found, lambda: listing(found, columns))


def _uses(platform: "Platform") -> "list[DefinitionUse]":
    from rayplat.registry.uses import definition_uses

    return list(definition_uses(platform.registry))


def _statistics(platform: "Platform", uses: list[dict[str, Any]], view: View) -> dict[str, dict[str, Any]]:
    """By feature, how its values were spread in the newest training set that has them."""
    manifest: Manifest | None = None
    if uses:
        from rayplat.registry.artifact import read_manifest

        newest = max(uses, key=lambda use: use["version"])
        version = platform.registry.version(newest["model"], newest["version"])
        manifest = read_manifest(version.artifact_uri, version.manifest_sha256)
    profile = {} if manifest is None else manifest.profile
    return {
        name: {
            "rows": profile[name].rows,
            "null_share": profile[name].null_share,
            "inner_edges": profile[name].edges,
        }
        for name in view.names
        if name in profile
    }


def _card(found: dict[str, Any]) -> "RenderableType":
    from rich.console import Group

    apart = ("features", "versions", "used_by", "statistics", "definition", "freshness")
    head = {name: value for name, value in found.items() if name not in apart}
    parts: list[RenderableType] = [fields(head)]
    if found["freshness"] is not None:
        parts += ["", fields({"online": found["freshness"]})]
    parts += ["", listing([{"feature": name, **told} for name, told in found["features"].items()])]
    parts += [listing(found["versions"], title="versions"), listing(found["used_by"], title="used by")]
    stats = [
        {
            "feature": name,
            "rows": told["rows"],
            "null share": told["null_share"],
            "bins at": told["inner_edges"],
        }
        for name, told in found["statistics"].items()
    ]
    return Group(*parts, *([listing(stats, title="in training")] if stats else []))

"""`rayplat serve`: endpoints of a project.

Knows which endpoints are meant and how they are shown; it does not know how one is deployed.
"""

from typing import Annotated

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import fields, listing
from rayplat.cli.parameters import ProjectAddress
from rayplat.core.errors import NotFoundError
from rayplat.core.project.model import Endpoint
from rayplat.core.project.project import Project

app = group("Deploy, list and delete endpoints.")

_KEPT = ("target", "reason", "bridges", "ongoing", "held", "standbys", "standby_mib")

Name = Annotated[str | None, typer.Option("--endpoint", help="Only this endpoint.", show_default=False)]


@command(app)
def deploy(call: Call, project: ProjectAddress, endpoint: Name = None) -> None:
    """Let the project's endpoints answer with the champions of their models."""
    from rayplat.serve.app import deploy as deploy_one

    loaded = call.project(project)
    chosen = _endpoints(loaded, endpoint)
    platform = call.connected()
    found = []
    for one in chosen:
        info = deploy_one(platform.settings, loaded, one, platform.registry, platform.bus)
        found.append({"endpoint": one.name, "model": info.model, "version": info.version, "url": info.url})
    call.show(found, lambda: listing(found))


@command(app, "list")
def list_endpoints(call: Call) -> None:
    """List the endpoints that are deployed, with their state and address."""
    from ray import serve

    from rayplat.serve.app import endpoint_url

    settings = call.connected().settings
    found = [
        {"endpoint": name, "state": application.status.value, "url": endpoint_url(settings, name)}
        for name, application in sorted(serve.status().applications.items())
    ]
    call.show(found, lambda: listing(found, ["endpoint", "state", "url"], "endpoints"))


@command(app)
def status(call: Call) -> None:
    """Show each endpoint: state, replicas that run and are wanted and why, requests, and standbys."""
    from rayplat.serve.app import status as tell
    from rayplat.serve.replicas.actor import keeper_tells

    settings = call.connected().settings
    kept = keeper_tells(settings)
    found = [
        {
            "endpoint": name,
            "state": told["state"],
            "running": told["replicas"].get("RUNNING", 0),
            **{key: kept.get(name, {}).get(key) for key in _KEPT},
            "message": told["message"],
        }
        for name, told in sorted(tell().items())
    ]
    shown = ["endpoint", "state", "running", *_KEPT]
    call.show(found, lambda: listing(found, shown, "endpoints"))


@command(app)
def build(call: Call, project: ProjectAddress, endpoint: Name = None) -> None:
    """Print a file for Ray's `serve deploy`, which is the serveConfigV2 of a RayService too."""
    import yaml
    from rich.text import Text

    from rayplat.serve.app import spec_of
    from rayplat.serve.deployment import file

    loaded = call.project(project)
    chosen = _endpoints(loaded, endpoint)
    platform = call.connected()
    specs = [spec_of(platform.settings, loaded, one, platform.registry) for one in chosen]
    made = file(specs, platform.settings)
    call.show(made, lambda: Text(yaml.safe_dump(made, sort_keys=False)))


@command(app)
def delete(
    call: Call, endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", show_default=False)]
) -> None:
    """Take an endpoint down; its replicas finish what they have begun."""
    from rayplat.serve.app import undeploy

    if not undeploy(call.connected().settings, endpoint):
        raise NotFoundError(f"the endpoint {endpoint!r} is not deployed", "see `rayplat serve list`")
    call.show({"deleted": endpoint}, lambda: fields({"deleted": endpoint}))


def _endpoints(project: Project, name: str | None) -> list[Endpoint]:
    chosen = [one for one in project.endpoints if name in (None, one.name)]
    if not chosen:
        known = ", ".join(one.name for one in project.endpoints) or "none"
        raise NotFoundError(f"the project has no endpoint {name or ''!r}", f"there is: {known}")
    return chosen

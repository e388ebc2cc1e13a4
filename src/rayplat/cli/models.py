"""`rayplat models`: registered models, their versions and what is known of one.

Knows how versions are shown; it does not know how the registry keeps them.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.models_sign import key, sign, verify
from rayplat.cli.output import fields, listing
from rayplat.cli.versions import resolve
from rayplat.core.errors import NotFoundError

if TYPE_CHECKING:
    from rayplat.registry.model import RegisteredVersion

app = group("Registered models and their versions.")
command(app)(key)
command(app)(sign)
command(app)(verify)

_COLUMNS = ["name", "version", "aliases", "created_at", "run_id"]


@command(app, "list")
def list_models(call: Call) -> None:
    """List the registered versions of all models, as the audit log names them."""
    platform = call.platform()
    registered = platform.audit.entries(action="model.registered")
    names = sorted({str(entry.details["model"]) for entry in registered})
    found = [version for name in names for version in platform.registry.versions(name)]
    call.show(found, lambda: listing(found, _COLUMNS, "models"))


@command(app)
def show(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME[@ALIAS|/VERSION]", show_default=False)],
) -> None:
    """Show a version with its metrics and its verified manifest; without @ or /, all versions."""
    registry = call.platform().registry
    if "@" not in name and "/" not in name:
        versions = registry.versions(name)
        if not versions:
            raise NotFoundError(f"there is no model {name!r}", "`rayplat models list` shows what there is")
        call.show(versions, lambda: listing(versions, _COLUMNS))
        return
    from rayplat.registry.artifact import read_manifest

    version = resolve(registry, name)
    manifest = read_manifest(version.artifact_uri, version.manifest_sha256)
    described = manifest.model_dump(mode="json", exclude={"profile"})
    found = {"version": version, "manifest": described}
    call.show(found, lambda: fields({**_flat(version), **described}))


def _flat(version: "RegisteredVersion") -> dict[str, object]:
    return {
        "model": version.name,
        "version": version.version,
        "aliases": version.aliases,
        "created_at": version.created_at,
        "run_id": version.run_id,
        "artifact": version.artifact_uri,
        "manifest_sha256": version.manifest_sha256,
    }

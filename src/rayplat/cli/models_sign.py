"""`rayplat models key|sign|verify`: who vouches for a version, and whether its bytes are what was written.

Knows how a version is named and what is shown; it does not know how a signature is made.
"""

from pathlib import Path
from typing import Annotated

import typer

from rayplat.cli.command import Call
from rayplat.cli.output import fields
from rayplat.cli.versions import resolve
from rayplat.core.errors import UserError

VersionName = Annotated[str, typer.Argument(metavar="NAME@ALIAS|NAME/VERSION", show_default=False)]


def key(call: Call, path: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]) -> None:
    """Make a key pair: FILE signs (`registry.signing_key`), FILE.pub is trusted (`registry.trusted_keys`)."""
    from rayplat.registry.signature import make_key

    found = {"key": make_key(path), "secret": str(path), "public": f"{path}.pub"}
    call.show(found, lambda: fields(found))


def sign(call: Call, name: VersionName) -> None:
    """Sign a registered version by the key of the settings, after every byte of it was verified."""
    from rayplat.registry.artifact import read_artifact
    from rayplat.registry.signature import sign as sign_artifact

    platform = call.platform()
    if not platform.settings.registry.signing_key:
        raise UserError("the settings name no key to sign by", "--set registry.signing_key=FILE")
    version = resolve(platform.registry, name)
    read_artifact(version.artifact_uri, version.manifest_sha256)
    by = sign_artifact(platform.settings.registry, version.artifact_uri, version.manifest_sha256)
    found = {"model": version.name, "version": version.version, "signed_by": by}
    call.show(found, lambda: fields(found))


def verify(call: Call, name: VersionName) -> None:
    """Verify every byte of a registered version, and its signature where the settings trust keys."""
    from rayplat.registry.artifact import read_artifact
    from rayplat.registry.signature import check

    platform = call.platform()
    version = resolve(platform.registry, name)
    _, manifest = read_artifact(version.artifact_uri, version.manifest_sha256)
    found = {
        "model": version.name,
        "version": version.version,
        "files": len(manifest.files),
        "bytes": sum(pin.size for pin in manifest.files.values()),
        "signed_by": check(platform.settings.registry, version.artifact_uri, version.manifest_sha256),
    }
    call.show(found, lambda: fields(found))

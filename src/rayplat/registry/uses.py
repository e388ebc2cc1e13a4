"""Which registered versions use which feature definition.

Knows the pins of manifests; it does not know the definitions themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rayplat.core.errors import RayplatError
from rayplat.registry.artifact import read_manifest
from rayplat.registry.store import Registry


@dataclass(frozen=True, slots=True)
class DefinitionUse:
    """A registered version reads a view as it was defined then.

    Attributes:
        view: the view's name; `digest`: of its definition.
        aliases: of the version, such as `champion`.
    """

    view: str
    digest: str
    model: str
    version: int
    aliases: tuple[str, ...]


def definition_uses(registry: Registry) -> Iterator[DefinitionUse]:
    """Every use of a definition by a registered version; a version whose artifact is gone has none."""
    for model in registry.models():
        for version in registry.versions(model):
            try:
                manifest = read_manifest(version.artifact_uri, version.manifest_sha256)
            except RayplatError:
                continue  # its own commands tell; a listing must not fail for one lost artifact
            for pin in manifest.features:
                yield DefinitionUse(pin.view, pin.digest, model, version.version, tuple(version.aliases))

"""A model with the features that one of its versions was trained with, whatever the project says now.

Knows how a version's pins are matched with definitions; it does not know how features are computed.
"""

from collections.abc import Callable
from dataclasses import replace

from rayplat.core.errors import UserError
from rayplat.core.project.model import Model
from rayplat.core.project.view import View
from rayplat.features.definition import digest_as_asked
from rayplat.features.restore import restore
from rayplat.features.versions import FeatureVersions, ViewVersion
from rayplat.registry.manifest import Manifest

Find = Callable[[str], ViewVersion | None]
"""A digest -> the applied definition that has it; see `FeatureVersions.by_digest`."""


def as_trained(model: Model, manifest: Manifest, find: Find) -> Model:
    """The model over the views that the version was trained with.

    A view that is still defined so is the project's own; one that was changed or removed since is restored
    from its applied definition.

    Args:
        model: as the project declares it now.
        manifest: of the version.
        find: gives applied definitions; asked only where the project differs.

    Raises:
        UserError: a former definition was never applied, or holds a Python function.
    """
    now = {view.name: view for view in model.features}
    views = tuple(_view(model, now, pin.view, pin.digest, find) for pin in manifest.features)
    found = model if views == model.features else replace(model, features=views)
    if found.feature_names != manifest.inputs:
        raise UserError(
            f"the inputs of {model.name!r} are not in the order that its version was trained with",
            "train and register a new version, or take the change back",
        )
    return found


def _view(model: Model, now: dict[str, View], name: str, digest: str, find: Find) -> View:
    if name in now and digest_as_asked(now[name]) == digest:
        return now[name]
    stored = find(digest)
    if stored is None:
        raise UserError(
            f"view {name!r} of {model.name!r} is not what its version was trained with, and that definition "
            f"({digest[:12]}) was never applied",
            "train and register a new version, or take the change back",
        )
    return restore(stored.described)


def applied(versions: FeatureVersions) -> Find:
    """`by_digest` of the platform's versions; the database is opened only when it is asked, and closed."""

    def find(digest: str) -> ViewVersion | None:
        try:
            return versions.by_digest(digest)
        finally:
            versions.close()

    return find

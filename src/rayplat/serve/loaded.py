"""A registered version, loaded to answer: verified, with the features it was trained with.

Knows which parts of an artifact make a model; it does not know who asks it, nor how features are had.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rayplat.core.errors import BugError, IntegrityError
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project
from rayplat.core.settings import Settings
from rayplat.features.versions import FeatureVersions
from rayplat.registry.artifact import read_artifact, read_manifest
from rayplat.registry.estimators import read_estimator
from rayplat.registry.manifest import Manifest
from rayplat.registry.signature import check
from rayplat.serve.as_trained import applied, as_trained

Network = Callable[[Any], Any]
"""float32 tensor [rows, inputs], NaN where missing -> one logit a row."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that can answer.

    Attributes:
        model: as the version was trained, whatever the project says now.
        manifest: of its artifact.
        network: see `Network`.
    """

    model: Model
    manifest: Manifest
    network: Network


def load_version(settings: Settings, project: Project, name: str, uri: str, manifest_sha256: str) -> Loaded:
    """Load a version; every byte is verified before it is parsed.

    Args:
        settings: name the keys that are trusted, and the former definitions of views.
        project: declares the model.
        name: of the model.
        uri: of the artifact.
        manifest_sha256: as it was registered.

    Raises:
        NotFoundError, IntegrityError: the artifact is gone, not what was registered, or not signed by a
            trusted key.
        UserError: the features cannot be defined as they were in training.
    """
    model, manifest = trained(settings, project, name, uri, manifest_sha256)
    tensors, _ = read_artifact(uri, manifest_sha256)
    estimator = read_estimator(uri, manifest, manifest_sha256)
    return Loaded(model, manifest, estimator or build_network(model, tensors, manifest))


def trained(
    settings: Settings, project: Project, name: str, uri: str, manifest_sha256: str
) -> tuple[Model, Manifest]:
    """A version's model as it was trained and its manifest, before anything else of it is read.

    Raises:
        NotFoundError, IntegrityError, UserError: as `load_version`.
    """
    declared = declared_model(project, name)
    manifest = read_manifest(uri, manifest_sha256)
    check(settings.registry, uri, manifest_sha256)
    return as_trained(declared, manifest, applied(FeatureVersions(settings))), manifest


def build_network(model: Model, tensors: Mapping[str, Any], manifest: Manifest) -> Any:
    """The project's network with the artifact's weights, ready to infer.

    Raises:
        IntegrityError: the weights do not fit the network that the project builds.
    """
    network = model.network(len(manifest.inputs))
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise IntegrityError(
            f"the weights of {model.name!r} do not fit its network: {error}",
            "the project's `network` was changed since: train a new version, or take the change back",
        ) from error
    return network.eval()


def declared_model(project: Project, name: str) -> Model:
    """A model of a project by its name.

    Raises:
        BugError: there is none; a validated project names only models that it has.
    """
    for model in project.models:
        if model.name == name:
            return model
    raise BugError(f"project {project.name!r} has no model {name!r}")

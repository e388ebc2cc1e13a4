"""A replica: a process that loads one model version and answers for its endpoint.

Knows how a replica comes up (project, verified artifact, online store, log); it does not know how many
replicas there are, nor how they are deployed.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rayplat.core.errors import BugError
from rayplat.core.project.load import load_project
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project
from rayplat.core.settings import Settings
from rayplat.core.telemetry import configure_logging
from rayplat.features.online.opening import open_online
from rayplat.features.server.process import Where
from rayplat.features.serving import OnlineFeatures, get_online_features
from rayplat.features.versions import FeatureVersions
from rayplat.registry.artifact import read_artifact
from rayplat.registry.estimators import read_estimator
from rayplat.serve.admission.admission import open_admission
from rayplat.serve.as_trained import applied, as_trained
from rayplat.serve.front.listener import Front, Fronted
from rayplat.serve.front.neighbours import Neighbours
from rayplat.serve.http import EndpointApp
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.log.idempotency import IdempotencyKeys
from rayplat.serve.prediction_log import Log, open_prediction_log
from rayplat.serve.predictor import Predictor, build_network
from rayplat.serve.request import form_of
from rayplat.serve.served import Served
from rayplat.serve.spec import EndpointSpec


class Replica:
    """The class that Ray Serve makes a replica of; it raises while it starts if anything does not fit."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._spec = spec

    def __serve_build_asgi_app__(self) -> EndpointApp:  # Ray Serve calls it so
        """The application that Ray Serve sends requests to."""
        configure_logging(self._spec.settings.log)
        return build_app(self._spec)


def build_app(spec: EndpointSpec) -> EndpointApp:
    """Everything of a replica but Ray: load, verify, open, and listen where the settings want a front.

    Raises:
        UserError: the port of the front cannot be had.
        UnavailableError: tokens cannot be read.
        RayplatError: as `build_served`.
    """
    served, log = build_served(spec), open_prediction_log(spec.settings)
    keyed = KeyedRequests(IdempotencyKeys(spec.settings))
    return EndpointApp(
        predictor=served.predictor,
        form=served.form,
        log=log,
        admission=open_admission(spec.settings),
        about=served.about,
        keyed=keyed,
        closing=open_front(spec.settings, served, log, keyed),
    )


def open_front(
    settings: Settings, served: Served, log: Log, keyed: KeyedRequests
) -> Callable[[], None] | None:
    """Let a replica listen itself, beside the door of Serve; what ends it, or None where there is no front.

    Raises:
        UserError: the port cannot be had.
        UnavailableError: tokens cannot be read.
    """
    if not settings.serve.front_port:
        return None
    # The decisions of one door are made on one thread.
    admission = open_admission(settings)
    near = Neighbours(settings.home / "front" / socket.gethostname())
    where = Where(settings.serve.host, settings.serve.front_port)
    front = Front(Fronted(served, admission, log, near, keyed), where)
    front.start()

    def close() -> None:
        front.close()
        admission.close()

    return close


def build_served(spec: EndpointSpec) -> Served:
    """What a replica answers with: the project, the verified artifact, the online store.

    Raises:
        ProjectError: the project does not load here.
        NotFoundError, IntegrityError: the artifact is gone, or not what was registered.
        UserError: the features cannot be defined as they were in training.
    """
    import torch

    torch.set_num_threads(1)  # a replica answers small batches; more threads only wait for each other
    declared = declared_model(load_project(spec.project), spec.model)
    tensors, manifest = read_artifact(spec.artifact_uri, spec.manifest_sha256)
    model = as_trained(declared, manifest, applied(FeatureVersions(spec.settings)))
    estimator = read_estimator(spec.artifact_uri, manifest, spec.manifest_sha256)
    online = open_online(spec.settings)

    def lookup(instances: Sequence[Mapping[str, Any]], at: datetime) -> OnlineFeatures:
        return get_online_features(online, model.features, instances, at)

    return Served(
        predictor=Predictor(
            endpoint=spec.endpoint,
            model=spec.model,
            version=spec.version,
            inputs=manifest.inputs,
            network=estimator or build_network(model, tensors, manifest),
            lookup=lookup,
        ),
        form=form_of(model),
        about={"manifest_sha256": spec.manifest_sha256, "deployment": spec.fingerprint()},
    )


def declared_model(project: Project, name: str) -> Model:
    """A model of a project by its name.

    Raises:
        BugError: there is none; a validated project names only models that it has.
    """
    for model in project.models:
        if model.name == name:
            return model
    raise BugError(f"project {project.name!r} has no model {name!r}")

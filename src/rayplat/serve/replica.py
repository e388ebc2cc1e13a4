"""A replica: a process that loads one model version and answers for its endpoint.

Knows how a replica comes up (project, verified artifact, online store, log); it does not know how many
replicas there are, nor how they are deployed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rayplat.core.project.load import load_project
from rayplat.core.telemetry import configure_logging
from rayplat.features.online.opening import open_online
from rayplat.features.server.process import Where
from rayplat.features.serving import OnlineFeatures, get_online_features
from rayplat.serve.admission.admission import open_admission
from rayplat.serve.arms.wired import with_arms
from rayplat.serve.front.listener import Front, Fronted, SeatAt
from rayplat.serve.front.neighbours import Neighbours, front_folder
from rayplat.serve.front.seat import keeper_folder, seat_path
from rayplat.serve.http import EndpointApp
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.loaded import load_version
from rayplat.serve.log.idempotency import IdempotencyKeys
from rayplat.serve.outbox import CHAMPION
from rayplat.serve.prediction_log import Log, open_prediction_log
from rayplat.serve.predictor import Predictor
from rayplat.serve.ready import ReadyFeatures
from rayplat.serve.request import form_of
from rayplat.serve.sampled import SampledLog
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
    served, log = with_arms(spec, build_served, open_log(spec))
    keyed = KeyedRequests(IdempotencyKeys(spec.settings))
    return EndpointApp(
        predictor=served.predictor,
        form=served.form,
        log=log,
        admission=open_admission(spec.settings),
        about=served.about,
        keyed=keyed,
        closing=open_front(spec, served, log, keyed),
    )


def open_front(
    spec: EndpointSpec, served: Served, log: Log, keyed: KeyedRequests
) -> Callable[[], None] | None:
    """Let a replica listen itself, beside the door of Serve; what ends it, or None where there is no front.

    Raises:
        UserError: the port cannot be had.
        UnavailableError: tokens cannot be read.
    """
    if not spec.settings.serve.front_port:
        return None
    front = _front(spec, served, log, keyed, bridge=False, quit_asked=_nothing)
    front.start()
    return front.close


def _nothing() -> None:
    return None


class FrontAlone:
    """A replica that has a front and no door of Serve: loaded when it is made, and answering once started.

    Args:
        quit_asked: called when the keeper needs it no more.
    """

    def __init__(self, spec: EndpointSpec, quit_asked: Callable[[], None]) -> None:
        self._served, self._log = with_arms(spec, build_served, open_log(spec))
        self._keyed = KeyedRequests(IdempotencyKeys(spec.settings))
        self._front = _front(spec, self._served, self._log, self._keyed, bridge=True, quit_asked=quit_asked)

    def start(self) -> None:
        """Answer from now on."""
        self._front.start()

    def close(self) -> None:
        """Answer what was asked, make it durable, and end."""
        self._front.close()
        self._log.close()
        self._keyed.close()


class _Front(Front):
    """A front that closes its admission too."""

    def __init__(self, fronted: Fronted, where: Where) -> None:
        super().__init__(fronted, where)
        self._admission = fronted.admission

    def close(self) -> None:
        super().close()
        self._admission.close()


def _front(  # all that a front is made of
    spec: EndpointSpec,
    served: Served,
    log: Log,
    keyed: KeyedRequests,
    *,
    bridge: bool,
    quit_asked: Callable[[], None],
) -> Front:
    settings = spec.settings
    folder = front_folder(settings)
    seat = None
    keeper = keeper_folder(folder, settings.serve.front_port)
    if spec.kept and keeper.exists():  # a machine without a keeper is listened on by its replicas
        hello = {"endpoint": spec.endpoint, "spec": spec.to_json(), "since": time.time(), "bridge": bridge}
        seat = SeatAt(seat_path(folder, settings.serve.front_port), hello, quit_asked)
    # The decisions of one door are made on one thread.
    admission, near = open_admission(settings), Neighbours(folder, keeper)
    fronted = Fronted(served, admission, log, near, keyed, seat, spec.answering.batch)
    return _Front(fronted, Where(settings.serve.host, settings.serve.front_port))


def open_log(spec: EndpointSpec) -> Log:
    """The prediction log of an endpoint: of its class, and of the share that is logged."""
    log = open_prediction_log(spec.settings)
    return log if spec.logging.sample >= 1 else SampledLog(log, spec.logging.sample)


def build_served(spec: EndpointSpec, arm: str = CHAMPION) -> Served:
    """What a replica answers with: the project, the verified artifact, the online store.

    Args:
        arm: what the records call the version.

    Raises:
        ProjectError: the project does not load here.
        NotFoundError, IntegrityError: the artifact is gone, or not what was registered.
        UserError: the features cannot be defined as they were in training.
    """
    import torch

    torch.set_num_threads(1)  # a replica answers small batches; more threads only wait for each other
    project = load_project(spec.project)
    loaded = load_version(spec.settings, project, spec.model, spec.artifact_uri, spec.manifest_sha256)
    online = open_online(spec.settings)

    def general(instances: Sequence[Mapping[str, Any]], at: datetime) -> OnlineFeatures:
        return get_online_features(online, loaded.model.features, instances, at)

    return Served(
        predictor=Predictor(
            endpoint=spec.endpoint,
            model=spec.model,
            version=spec.version,
            inputs=loaded.manifest.inputs,
            network=loaded.network,
            lookup=ReadyFeatures(online, loaded.model.features, general),
            arm=arm,
        ),
        form=form_of(loaded.model),
        about={"manifest_sha256": spec.manifest_sha256, "deployment": spec.fingerprint()},
    )

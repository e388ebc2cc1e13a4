"""A replica: a process that loads one model version and answers for its endpoint.

Knows how a replica comes up (project, verified artifact, online store, log); it does not know how many
replicas there are, nor how they are deployed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from rayplat.core.project.load import load_project
from rayplat.core.project.project import Project
from rayplat.core.telemetry import configure_logging
from rayplat.features.online.opening import open_online
from rayplat.features.online.store import OnlineStore
from rayplat.features.server.process import Where
from rayplat.features.server.steady import settle
from rayplat.features.serving import OnlineFeatures, get_online_features
from rayplat.registry.manifest import Manifest
from rayplat.serve.admission.admission import open_admission
from rayplat.serve.arms.wired import with_arms
from rayplat.serve.front.listener import Front, Fronted, SeatAt
from rayplat.serve.front.neighbours import Neighbours, front_folder
from rayplat.serve.front.seat import keeper_folder, seat_path
from rayplat.serve.grpc import open_inference_pb2 as pb
from rayplat.serve.grpc.service import Context, Inference
from rayplat.serve.http import EndpointApp
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.loaded import Loaded, Network, load_version
from rayplat.serve.log.idempotency import IdempotencyKeys
from rayplat.serve.log.places import on_kafka
from rayplat.serve.multiplex.choices import Choice
from rayplat.serve.multiplex.chosen import Chosen, open_pool
from rayplat.serve.multiplex.pool import Pool
from rayplat.serve.outbox import CHAMPION
from rayplat.serve.prediction_log import Log, open_prediction_log
from rayplat.serve.predictor import Predictor
from rayplat.serve.ready import ReadyFeatures
from rayplat.serve.request import form_of
from rayplat.serve.sampled import SampledLog
from rayplat.serve.served import Served
from rayplat.serve.sides import Fetched
from rayplat.serve.spec import EndpointSpec
from rayplat.serve.stream_run import MOST_BYTES, MOST_BYTES_TO_KAFKA, Parts


class Replica:
    """The class that Ray Serve makes a replica of; it raises while it starts if anything does not fit."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._spec = spec

    def __serve_build_asgi_app__(self) -> EndpointApp:  # Ray Serve calls it so
        """The application that Ray Serve sends requests to."""
        configure_logging(self._spec.settings.log)
        app = build_app(self._spec, _fetched(self._spec))
        self._inference = Inference(app.served, app.predict, app.choices)
        settle()  # what is loaded now stays: the collector need not look at it again
        return app

    # What Ray Serve's gRPC door calls; the argument must have this name for Serve to give the context.
    async def ServerLive(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:  # noqa: N802
        """Whether the server lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:  # noqa: N802
        """Whether the server answers."""
        return pb.ServerReadyResponse(ready=True)

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest
    ) -> pb.ServerMetadataResponse:
        """See `Inference.server`."""
        return self._inference.server()

    async def ModelReady(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:  # noqa: N802
        """See `Inference.ready`."""
        return self._inference.ready(request)

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, grpc_context: Context
    ) -> pb.ModelMetadataResponse:
        """See `Inference.model`."""
        return self._inference.model(request, grpc_context)

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, grpc_context: Context
    ) -> pb.ModelInferResponse:
        """See `Inference.infer`."""
        return await self._inference.infer(request, grpc_context)


def _fetched(spec: EndpointSpec) -> Fetched | None:
    """What tells Ray Serve which choices are asked for here; its own record of them is as long as ours."""
    if not spec.choices:
        return None
    from ray import serve

    async def asked(choice: str) -> str:
        return choice

    fetched: Fetched = serve.multiplexed(max_num_models_per_replica=spec.kept_choices)(asked)
    return fetched


def build_app(spec: EndpointSpec, fetched: Fetched | None = None) -> EndpointApp:
    """Everything of a replica but Ray: load, verify, open, and listen where the settings want a front.

    Args:
        fetched: see `Fetched`.

    Raises:
        UserError: the port of the front cannot be had.
        UnavailableError: tokens cannot be read.
        RayplatError: as `build_served`.
    """
    served, log = with_arms(spec, build_served, open_log(spec))
    keyed, pool = KeyedRequests(IdempotencyKeys(spec.settings)), open_choices(spec)
    return EndpointApp(
        predictor=served.predictor,
        form=served.form,
        log=log,
        admission=open_admission(spec.settings),
        about=served.about,
        keyed=keyed,
        closing=open_front(spec, served, log, keyed, pool),
        parts=served.parts,
        pool=pool,
        choices=spec.choices,
        fetched=fetched,
    )


def open_front(
    spec: EndpointSpec, served: Served, log: Log, keyed: KeyedRequests, pool: Pool[Chosen] | None = None
) -> Callable[[], None] | None:
    """Let a replica listen itself, beside the door of Serve; what ends it, or None where there is no front.

    Raises:
        UserError: the port cannot be had.
        UnavailableError: tokens cannot be read.
    """
    if not spec.settings.serve.front_port:
        return None
    front = _front(spec, served, log, keyed, pool, bridge=False, quit_asked=_nothing)
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
        self._pool = open_choices(spec)
        self._front = _front(
            spec, self._served, self._log, self._keyed, self._pool, bridge=True, quit_asked=quit_asked
        )

    def start(self) -> None:
        """Answer from now on."""
        self._front.start()

    def close(self) -> None:
        """Answer what was asked, make it durable, and end."""
        self._front.close()
        if self._pool is not None:
            self._pool.close()
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
    pool: Pool[Chosen] | None,
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
    fronted = Fronted(served, admission, log, near, keyed, seat, spec.answering.batch, spec.choices, pool)
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
    return _built(spec, arm, load_project(spec.project), open_online(spec.settings))[0]


def _built(
    spec: EndpointSpec, arm: str, project: Project, online: OnlineStore
) -> tuple[Served, Network, Manifest]:
    """What answers, and the network and the manifest that it was made of."""
    loaded = load_version(spec.settings, project, spec.model, spec.artifact_uri, spec.manifest_sha256)

    def general(instances: Sequence[Mapping[str, Any]], at: datetime) -> OnlineFeatures:
        return get_online_features(online, loaded.model.features, instances, at)

    lookup = ReadyFeatures(online, loaded.model.features, general)
    served = Served(
        predictor=Predictor(
            endpoint=spec.endpoint,
            model=spec.model,
            version=spec.version,
            inputs=loaded.manifest.inputs,
            network=loaded.network,
            lookup=lookup,
            arm=arm,
            reads=lookup.reads,
        ),
        form=form_of(loaded.model),
        about={"manifest_sha256": spec.manifest_sha256, "deployment": spec.fingerprint()},
        parts=_parts(spec, project, loaded),
    )
    return served, loaded.network, loaded.manifest


def open_choices(spec: EndpointSpec) -> Pool[Chosen] | None:
    """Where the models and versions beside the endpoint's own are loaded; None where there are none.

    Raises:
        ProjectError: the project does not load here.
    """
    if not spec.choices:
        return None
    project, online = load_project(spec.project), open_online(spec.settings)

    def load(choice: Choice) -> tuple[Served, Network, int]:
        told = replace(
            spec,
            model=choice.model,
            version=choice.version,
            artifact_uri=choice.artifact_uri,
            manifest_sha256=choice.manifest_sha256,
        )
        served, network, manifest = _built(told, CHAMPION, project, online)
        return served, network, sum(pin.size for pin in manifest.files.values())

    return open_pool(spec.choices, load, spec.kept_choices, spec.choices_mib)


def _parts(spec: EndpointSpec, project: Project, loaded: Loaded) -> Parts | None:
    """How the endpoint answers in parts, where it is declared to."""
    declared = next((one.stream for one in project.endpoints if one.name == spec.endpoint), None)
    if declared is None:
        return None
    answering = spec.answering
    to_kafka = on_kafka(spec.settings)
    return Parts(
        declared,
        {spec.version: loaded.network},
        answering.streams,
        answering.stream_s,
        MOST_BYTES_TO_KAFKA if to_kafka else MOST_BYTES,
    )

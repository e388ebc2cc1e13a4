"""Deploying an endpoint: one Ray Serve application each, under `/endpoints/<name>`.

Knows which version is to answer and how Serve is asked for it; it does not know how a replica answers.
Ray must be connected.
"""

import hashlib
import inspect
import itertools
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from rayplat.core.errors import NotFoundError, UnavailableError
from rayplat.core.events import EndpointDeployed, EventBus
from rayplat.core.project.model import Endpoint
from rayplat.core.project.project import Project
from rayplat.core.project.serving import Multiplex
from rayplat.core.settings import Settings
from rayplat.features.definition import digest_as_asked, digest_of
from rayplat.registry.store import Registry
from rayplat.serve.address import address_for_workers
from rayplat.serve.deployment import NAME, options
from rayplat.serve.loaded import declared_model, trained
from rayplat.serve.multiplex.choices import find_choices
from rayplat.serve.others import find_others
from rayplat.serve.proxy import ensure_proxy, proxy_address
from rayplat.serve.replica import Replica
from rayplat.serve.replicas.actor import ensure_keeper, forget
from rayplat.serve.spec import EndpointSpec

CHAMPION = "champion"
_HEALTHY_WITHIN_S = 60.0
_ASK_TIMEOUT_S = 20.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r'\s+File ".*", line \d+')


@dataclass(frozen=True, slots=True)
class EndpointInfo:
    """A deployed endpoint. `url` is where predictions are asked for by POST."""

    url: str
    model: str
    version: int

    @property
    def about_url(self) -> str:
        """Where GET tells the model, its version and what a request must hold."""
        return self.url.removesuffix("/predict")


def deploy(
    settings: Settings, project: Project, endpoint: Endpoint, registry: Registry, bus: EventBus
) -> EndpointInfo:
    """Let an endpoint answer with the champion of its model; returns when it is healthy.

    The same champion again is found running and nothing is done. A new one replaces the old without a
    gap. Emits EndpointDeployed after a change.

    Raises:
        NotFoundError: the model has no champion.
        IntegrityError: its manifest is not what was registered.
        UserError: the features cannot be defined as they were in training, or the port is taken.
        UnavailableError: the replicas do not come up; the message is theirs.
    """
    spec = spec_of(settings, project, endpoint, registry)
    base = ensure_proxy(settings)
    about = f"{base}/endpoints/{endpoint.name}"
    info = EndpointInfo(f"{about}/predict", spec.model, spec.version)
    if spec.kept:
        ensure_keeper(settings)
    if endpoint.name in _applications() and _deployed(about) == spec.fingerprint():
        return info
    _run(spec)
    _wait_healthy(about, spec.fingerprint())
    bus.emit(EndpointDeployed(endpoint=spec.endpoint, model=spec.model, version=spec.version))
    return info


def undeploy(settings: Settings, endpoint: Endpoint | str) -> bool:
    """Take an endpoint down; its replicas finish what they have begun.

    Returns:
        Whether it was there.
    """
    name = endpoint if isinstance(endpoint, str) else endpoint.name
    if proxy_address() is None or name not in _applications():
        return False
    from ray import serve

    serve.delete(name)
    if settings.serve.front_port:
        forget(settings, name)
    return True


def endpoint_url(settings: Settings, name: str) -> str:
    """Where a deployed endpoint answers predictions.

    Raises:
        NotFoundError: it is not deployed.
    """
    base = proxy_address()
    if base is None or name not in _applications():
        raise NotFoundError(f"the endpoint {name!r} is not deployed", "deploy it: rayplat serve deploy")
    return f"{base}/endpoints/{name}/predict"


def status() -> dict[str, dict[str, Any]]:
    """What Serve tells of each endpoint: its state, and its replicas by theirs."""
    return {
        name: {
            "state": application.status.value,
            "message": application.message,
            "replicas": {
                state: count
                for deployment in application.deployments.values()
                for state, count in deployment.replica_states.items()
                if count
            },
        }
        for name, application in _applications().items()
    }


def declared_endpoint(project: Project, name: str) -> Endpoint:
    """An endpoint of a project by its name.

    Raises:
        NotFoundError: it has none of this name.
    """
    for endpoint in project.endpoints:
        if endpoint.name == name:
            return endpoint
    known = ", ".join(one.name for one in project.endpoints) or "none"
    raise NotFoundError(f"the project has no endpoint {name!r}", f"there is: {known}")


def spec_of(settings: Settings, project: Project, endpoint: Endpoint, registry: Registry) -> EndpointSpec:
    """What a replica of an endpoint is told. Ray must be connected.

    Raises:
        NotFoundError: the model has no champion, or not the declared version.
        IntegrityError, UserError: as `deploy`.
    """
    name = declared_model(project, endpoint.model).name
    if endpoint.version is None:
        champion = registry.by_alias(name, CHAMPION)
    else:
        champion = registry.version(name, endpoint.version)
    if champion is None:
        raise NotFoundError(
            f"the model {name!r} has no {CHAMPION}", "train it and let a version pass its gates"
        )
    # A replica checks all this again; here the fault is told at once, and by its own class.
    model, _ = trained(settings, project, name, champion.artifact_uri, champion.manifest_sha256)
    if endpoint.logging.durable is not None:
        chosen = settings.serve.model_copy(update={"log": endpoint.logging.durable})
        settings = settings.model_copy(update={"serve": chosen})
    return EndpointSpec(
        settings=settings,
        project=address_for_workers(project.address),
        definitions_sha256=digest_of([digest_as_asked(view) for view in model.features]),
        endpoint=endpoint.name,
        model=name,
        version=champion.version,
        artifact_uri=champion.artifact_uri,
        manifest_sha256=champion.manifest_sha256,
        autoscale=endpoint.autoscale,
        answering=endpoint.answering,
        logging=endpoint.logging,
        traffic=endpoint.traffic,
        others=find_others(registry, name, champion.version, endpoint.traffic),
        kept=settings.serve.front_port > 0,
        stream_sha256=_source(endpoint.stream),
        choices=find_choices(registry, name, endpoint.multiplex),
        **({} if endpoint.multiplex is None else _room(endpoint.multiplex)),
    )


def _room(declared: Multiplex) -> dict[str, Any]:
    return {"kept_choices": declared.kept, "choices_mib": declared.most_mib}


def _source(function: Callable[..., Any] | None) -> str:
    """SHA-256 (hex) of a function's source; empty for none."""
    if function is None:
        return ""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):  # no file tells it: its name must do
        text = getattr(function, "__qualname__", repr(type(function)))
    return hashlib.sha256(text.encode()).hexdigest()


def bound(spec: EndpointSpec) -> Any:
    """Serve's application of an endpoint."""
    from ray import serve

    told = options(spec)
    told["ray_actor_options"] |= _runtime_env(spec)
    declare = serve.deployment(name=NAME, max_constructor_retry_count=2, **told)
    return declare(serve.ingress()(Replica)).bind(spec)


def _run(spec: EndpointSpec) -> None:
    from ray import serve

    application = bound(spec)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        serve.run(application, name=spec.endpoint, route_prefix=f"/endpoints/{spec.endpoint}")
    except RuntimeError as error:
        raise UnavailableError(
            f"the endpoint {spec.endpoint!r} does not come up: {_reason(spec.endpoint, error)}",
            "mend what the replica tells, and deploy again",
        ) from error


def _runtime_env(spec: EndpointSpec) -> dict[str, Any]:
    import ray

    job = ray.get_runtime_context().runtime_env
    # Polars takes its threads from the environment when it is imported. More threads than a replica has
    # CPUs only wait for each other: one is a quarter faster on the small frames of a request.
    threads = {"POLARS_MAX_THREADS": str(max(1, int(spec.autoscale.cpus)))}
    return {"runtime_env": {**job, "env_vars": {**job.get("env_vars", {}), **threads}}}


def _reason(name: str, error: RuntimeError) -> str:
    """What the failed replica said: its error, without colours and without the frames of the trace."""
    application = _applications().get(name)
    told = str(error)
    if application is not None:
        told = next((d.message for d in application.deployments.values() if d.message), application.message)
    lines = _COLOUR.sub("", told).splitlines()
    frames = [i for i, line in enumerate(lines) if _FRAME.match(line)]
    after = lines[frames[-1] + 1 :] if frames else lines
    said = list(itertools.dropwhile(lambda line: line.startswith("    "), after))
    return "\n".join(said or lines).strip()


def _applications() -> dict[str, Any]:
    from ray import serve

    return dict(serve.status().applications)


def _deployed(about: str) -> str | None:
    """The fingerprint of what answers now; None when nothing does."""
    try:
        answer = httpx.get(about, timeout=_ASK_TIMEOUT_S)
        return (
            str(orjson.loads(answer.content)["deployment"]) if answer.status_code == httpx.codes.OK else None
        )
    except (httpx.HTTPError, orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _wait_healthy(about: str, fingerprint: str) -> None:
    """Wait until requests reach replicas of this deployment through the proxy, which learns of them late."""
    deadline = time.monotonic() + _HEALTHY_WITHIN_S
    while _deployed(about) != fingerprint:
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"{about} does not answer as deployed within {_HEALTHY_WITHIN_S:.0f} s",
                "look at the replica's log in the dashboard",
            )
        time.sleep(0.05)

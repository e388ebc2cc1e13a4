"""An endpoint as Ray Serve's deployment: the options that a replica is declared with.

Knows how a declaration reads in Serve's words, which are the same in a running application and in a file for
`serve deploy`; it does not know what a replica answers with.
"""

from typing import Any

from rayplat.core.settings import Settings
from rayplat.serve.proxy import grpc_options
from rayplat.serve.spec import EndpointSpec

NAME = "replica"
BUILDER = "rayplat.serve.application:build"
_DRAIN_S = 10.0
_LOOK_S = 0.1


def options(spec: EndpointSpec) -> dict[str, Any]:
    """What Serve is told of an endpoint beside its code; JSON values."""
    return {
        "max_ongoing_requests": spec.answering.at_once,
        "graceful_shutdown_timeout_s": _DRAIN_S,
        # By default Serve looks every 2 s whether a replica that is to end has finished.
        "graceful_shutdown_wait_loop_s": _LOOK_S,
        "ray_actor_options": {"num_cpus": spec.autoscale.cpus, "num_gpus": spec.autoscale.gpus},
        **replicas(spec),
    }


def replicas(spec: EndpointSpec) -> dict[str, Any]:
    """How many replicas: a number, or how Serve follows the load."""
    scale = spec.autoscale
    if scale.least == scale.most:
        return {"num_replicas": scale.most}
    found: dict[str, Any] = {
        "min_replicas": scale.least,
        "initial_replicas": max(1, scale.least),  # the first answer proves that it works
        "max_replicas": scale.most,
        "target_ongoing_requests": scale.ongoing,
        "upscale_delay_s": 0.0,
        "downscale_delay_s": scale.calm_s,
        "downscale_to_zero_delay_s": scale.idle_s,
    }
    if spec.kept:
        # The keeper sees what Serve does not, and has waited already.
        found |= {"downscale_delay_s": 0.0, "downscale_to_zero_delay_s": 0.0, "policy": _policy(spec)}
    return {"autoscaling_config": found}


def file(specs: list[EndpointSpec], settings: Settings) -> dict[str, Any]:
    """A file for `serve deploy`, or the `serveConfigV2` of a RayService, as values."""
    serve = settings.serve
    door = grpc_options(settings)
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": serve.host, "port": serve.port},
        **({} if door is None else {"grpc_options": door}),
        "applications": [
            {
                "name": spec.endpoint,
                "route_prefix": f"/endpoints/{spec.endpoint}",
                "import_path": BUILDER,
                "args": {"project": spec.project, "endpoint": spec.endpoint},
                "deployments": [{"name": NAME, **options(spec)}],
            }
            for spec in specs
        ],
    }


def _policy(spec: EndpointSpec) -> dict[str, Any]:
    told = {
        "home": str(spec.settings.home),
        "port": spec.settings.serve.front_port,
        "endpoint": spec.endpoint,
        "ongoing": spec.autoscale.ongoing,
    }
    return {"policy_function": "rayplat.serve.replicas.in_serve:Wanted", "policy_kwargs": told}

"""Online features as a Ray Serve application, beside the endpoints and behind the same door.

Knows the deployment and its replicas; the answers are the feature server's. A client that needs the shortest
way asks `rayplat features serve` instead: Serve adds a hop, and scales and replaces replicas for it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayplat.core.project.load import load_project
from rayplat.core.settings import Settings
from rayplat.core.telemetry import configure_logging
from rayplat.serve.proxy import ensure_proxy

if TYPE_CHECKING:
    from rayplat.features.parity.log import FeatureLog
    from rayplat.features.server.asgi import FeaturesApp

APPLICATION = "features"
PREFIX = "/features"
_MOST_REQUESTS_A_REPLICA = 256


@dataclass(frozen=True, slots=True)
class FeaturesSpec:
    """What a replica is made from: it crosses to another process."""

    settings: Settings
    project: str
    log: bool = True


class FeaturesReplica:
    """The class that Ray Serve makes a replica of: a project's features from the store of the settings."""

    def __init__(self, spec: FeaturesSpec) -> None:
        self._spec = spec

    def __serve_build_asgi_app__(self) -> "FeaturesApp":  # Ray Serve calls it so
        """The application that Ray Serve sends requests to."""
        from rayplat.features.online.opening import open_online
        from rayplat.features.server.asgi import FeaturesApp
        from rayplat.features.server.drain import draining

        settings = self._spec.settings
        configure_logging(settings.log)
        local = settings.online.startswith("lmdb:")
        log = _open_log(settings) if self._spec.log else None
        # It ends with the replica's process.
        self._draining = draining(settings, None if log is None else _open_log)
        self._draining.__enter__()
        return FeaturesApp(load_project(self._spec.project), open_online(settings), local=local, log=log)


def _open_log(settings: Settings) -> "FeatureLog":
    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.features.parity.log import open_feature_log

    return open_feature_log(settings, Lakehouse(settings))


def deploy_features(
    settings: Settings, project: str, *, replicas: int = 1, cpus: float = 1.0, log: bool = True
) -> str:
    """Serve a project's online features; returns when replicas are ready. Ray must be connected.

    Args:
        settings: where the online store is; every replica must reach it.
        project: its address, as the replicas' nodes find it.
        replicas: how many processes answer.
        cpus: of each.
        log: whether every vector is written to the log, under the home of the node, before it is answered.

    Returns:
        where they answer: the paths of the feature server follow, such as `/get-online-features`.
    """
    from ray import serve

    base = ensure_proxy(settings)
    spec = FeaturesSpec(settings, project, log)
    declared = serve.deployment(
        name="features",
        num_replicas=replicas,
        max_ongoing_requests=_MOST_REQUESTS_A_REPLICA,
        graceful_shutdown_timeout_s=10,
        ray_actor_options={"num_cpus": cpus},
    )
    application = declared(serve.ingress()(FeaturesReplica)).bind(spec)
    serve.run(application, name=APPLICATION, route_prefix=PREFIX)
    return f"{base}{PREFIX}"

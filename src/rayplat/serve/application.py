"""The application that a file for `serve deploy` names: an endpoint of a project, built on the cluster.

Knows how a project's endpoint becomes Serve's application where only its names are given; the platform's
settings are those of the cluster's processes. It does not know how a replica answers.
"""

from typing import Any

from rayplat.core.project.load import load_project
from rayplat.core.settings_sources import load_settings
from rayplat.registry.store import Registry
from rayplat.serve.app import bound, declared_endpoint, spec_of
from rayplat.serve.replicas.actor import ensure_keeper


def build(args: dict[str, Any]) -> Any:
    """Serve's application of `args["endpoint"]` of the project at `args["project"]`.

    Raises:
        NotFoundError: the project has no such endpoint, or its model no such version.
        RayplatError: as `spec_of`.
    """
    settings = load_settings()
    project = load_project(str(args["project"]))
    endpoint = declared_endpoint(project, str(args["endpoint"]))
    spec = spec_of(settings, project, endpoint, Registry(settings))
    if spec.kept:
        ensure_keeper(settings)
    return bound(spec)

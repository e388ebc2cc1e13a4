"""All checks of the targets, on the files as they are in the folder.

Knows which checks a target has; it does not know how one is made.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from rayplat.cluster.check.aws import check_aws
from rayplat.cluster.check.finding import Finding, failed, passed
from rayplat.cluster.check.gcp import check_gcp
from rayplat.cluster.check.kuberay import check_config_map, check_kuberay
from rayplat.cluster.check.launcher import check_launcher
from rayplat.cluster.check.readback import compare, read_launcher
from rayplat.cluster.check.security import check_kuberay_security, check_launcher_security
from rayplat.cluster.render.launcher import without_skipped
from rayplat.cluster.render.targets import RenderedFile, render_targets
from rayplat.cluster.spec import ClusterSpec

Documents = list[Any]


def check_targets(spec: ClusterSpec, folder: Path, names: Iterable[str] = ()) -> list[Finding]:
    """Every check of the named targets, or of all that the spec has a part for.

    Raises:
        NotFoundError, UserError: as `render.targets.targets_of` does.
    """
    found = [_ray_version(spec)]
    for file in render_targets(spec, folder, names):
        found += _check_file(spec, file)
    return found


def _check_file(spec: ClusterSpec, file: RenderedFile) -> list[Finding]:
    found = [_fresh(file)]
    if file.found is None:
        return found
    try:
        documents = list(yaml.safe_load_all(file.found))
        return [*found, *_CHECKS[file.target](spec, documents)]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, IndexError) as error:
        what = f"{file.path} cannot be read as what it should be: {type(error).__name__}: {error}"
        return [*found, failed(file.target, "schema", what, _rendering(file.target))]


def _fresh(file: RenderedFile) -> Finding:
    if file.fresh:
        return passed(file.target, "fresh", f"{file.path} is what the cluster file makes")
    gone = "is not there" if file.found is None else "is not what the cluster file makes"
    return failed(file.target, "fresh", f"{file.path} {gone}", _rendering(file.target))


def _rendering(target: str) -> str:
    return f"run `rayplat cluster render {target}`"


def _aws(spec: ClusterSpec, documents: Documents) -> list[Finding]:
    return _launched("aws", spec, documents[0], check_aws)


def _gcp(spec: ClusterSpec, documents: Documents) -> list[Finding]:
    return _launched("gcp", spec, documents[0], check_gcp)


def _launched(
    target: str, spec: ClusterSpec, document: Any, launch: Callable[[Any], list[Finding]]
) -> list[Finding]:
    found = [
        *check_launcher(target, without_skipped(spec, target), document),
        *check_launcher_security(target, document, dashboard_open=bool(spec.network.dashboard_from)),
    ]
    # What Ray's schema refuses cannot be launched; the reason is told once.
    broken = any(finding.check == "schema" and finding.state == "failed" for finding in found)
    return found if broken else [*found, *launch(document)]


def _kuberay(spec: ClusterSpec, documents: Documents) -> list[Finding]:
    found = [
        *check_kuberay(without_skipped(spec, "kubernetes"), documents),
        *check_config_map(spec, documents),
    ]
    broken = any(finding.check == "schema" and finding.state == "failed" for finding in found)
    return found if broken else [*found, *check_kuberay_security(documents)]


def _local(spec: ClusterSpec, documents: Documents) -> list[Finding]:
    quick = spec.local.speedups.idle_timeout_s
    if quick is not None:
        hasty = {name: g.model_copy(update={"idle_timeout_s": quick}) for name, g in spec.groups.items()}
        spec = spec.model_copy(update={"groups": hasty})
    return compare("local", spec, read_launcher(documents[0]))


def _ray_version(spec: ClusterSpec) -> Finding:
    """Clients and nodes must run one version of Ray."""
    from importlib.metadata import version

    here = version("ray").partition("+")[0]
    if here == spec.ray.version:
        return passed("all", "ray", f"Ray {here} here and on every node")
    return failed(
        "all",
        "ray",
        f"the cluster file pins Ray {spec.ray.version}, and {here} is installed here",
        f"write ray.version: {here}, or install {spec.ray.version}",
    )


_CHECKS: dict[str, Callable[[ClusterSpec, Documents], list[Finding]]] = {
    "aws": _aws,
    "gcp": _gcp,
    "kuberay": _kuberay,
    "local": _local,
}

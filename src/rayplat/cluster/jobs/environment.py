"""The runtime environment of a job: its working folder, its packages, and who acts.

Knows what Ray is to be told (its `runtime_env`); it does not know how a job is sent. On a cluster that
runs from this very environment nothing is installed.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from rayplat.cluster.head import read_head
from rayplat.cluster.jobs.address import Door
from rayplat.cluster.jobs.folder import Package, package_name
from rayplat.cluster.jobs.request import JobRequest
from rayplat.core.errors import UserError
from rayplat.core.settings import Settings

LOCK = "constraints.txt"
_PIN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*==\S+( ; .+)?$")


def same_environment(settings: Settings) -> bool:
    """Whether the platform's own cluster runs from the environment of this process."""
    head = read_head(settings)
    ray = importlib.util.find_spec("ray")
    if head is None or ray is None or ray.origin is None:
        return False
    try:
        return Path(psutil.Process(head.pid).exe()).is_relative_to(Path(ray.origin).resolve().parent)
    except (psutil.Error, OSError):
        return False


def chosen_packages(settings: Settings, door: Door) -> str:
    """How packages are given: `none` or `pip`.

    `auto` installs nothing where the cluster runs from this environment. Elsewhere it is pip, which
    compares the pins with what the cluster's image has, and installs only what differs.
    """
    if settings.jobs.packages != "auto":
        return settings.jobs.packages
    return "none" if door.own and same_environment(settings) else "pip"


def runtime_environment(
    request: JobRequest, package: Package, packages: str, own_code: Package | None
) -> dict[str, Any]:
    """What Ray is told.

    Args:
        packages: as `chosen_packages` says.
        own_code: rayplat itself as a package, for a cluster that is not known to have it.

    Raises:
        UserError: packages are to be installed and the working folder holds no lock.
    """
    variables = {"RAYPLAT_USER": request.user}
    if request.team:
        variables["RAYPLAT_JOBS__TEAM"] = request.team
    environment: dict[str, Any] = {
        "working_dir": f"gcs://{package_name(package.digest)}",
        "env_vars": variables,
    }
    if packages == "none":
        return environment
    lock = next((file.content.decode() for file in package.files if file.path == LOCK), None)
    if lock is None:
        raise UserError(
            f"the cluster is not this environment, and {request.folder} holds no {LOCK} to install from",
            f"put a {LOCK} of pins there, or use the cluster's own packages: --set jobs.packages=none",
        )
    # The pins are of everything that is needed, however deep: Ray hands a constraints file's place to pip
    # with its variable unexpanded.
    environment["pip"] = {
        "packages": pinned_requirements(lock),
        "pip_check": False,
        "pip_install_options": ["--disable-pip-version-check"],
    }
    if own_code is not None:
        environment["py_modules"] = [f"gcs://{package_name(own_code.digest)}"]
    return environment


def pinned_requirements(lock: str) -> list[str]:
    """All that rayplat needs, at the versions of the lock; without Ray, since a cluster keeps its own."""
    pins: dict[str, str] = {}
    for line in map(str.strip, lock.splitlines()):
        if not line or line.startswith("#"):
            continue
        if not _PIN.match(line):
            raise UserError(
                f"the line {line!r} of {LOCK} is no pin", "write name==version, as `make lock` does"
            )
        pins[_canonical(line.partition("==")[0])] = line
    return [pins[name] for name in sorted(needed_by("rayplat") - {"rayplat", "ray"}) if name in pins]


def needed_by(distribution: str) -> set[str]:
    """The names of a distribution and of all that it needs, as far as it is installed here."""
    found: set[tuple[str, str]] = set()
    waiting = [(_canonical(distribution), "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        try:
            texts = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add((name, extra))
        for needed in map(Requirement, texts):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(_canonical(needed.name), one) for one in ("", *sorted(needed.extras))]
    return {name for name, _ in found}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def digest_of(environment: Mapping[str, Any]) -> str:
    """SHA-256 of a runtime environment."""
    return hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()

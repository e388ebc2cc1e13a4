"""Whether a rendered file keeps the cluster closed: asked of the file itself, not of what renders it.

Knows what Ray's own defaults leave open; it does not know how a file was made.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from rayplat.cluster.check.finding import Finding, failed, passed
from rayplat.cluster.check.shell import Start, home, starts, unit_starts, written

_TOKEN = "~/.ray/auth_token"  # noqa: S105  # a path, not a token
_BUILT_IN = ("exit", "set", "ulimit", "umask")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WORLD = ("0.0.0.0/0", "::/0")
_NIGHTLY = re.compile(r"nightly|/latest/|\.dev\d|:latest\b")


def check_launcher_security(
    target: str, document: dict[str, Any], *, dashboard_open: bool = False
) -> list[Finding]:
    """A launcher file: nothing open to the world, the token everywhere, disks, roles, pins.

    Args:
        target: aws or gcp.
        document: the file as a value.
        dashboard_open: the cluster file names networks that may reach the dashboard.
    """
    faults = [
        *_launcher_faults(document, dashboard_open),
        *(
            fault
            for name, kind in document["available_node_types"].items()
            for fault in (_aws_faults if target == "aws" else _gcp_faults)(name, kind["node_config"])
        ),
    ]
    return _told(target, faults)


def _launcher_faults(document: dict[str, Any], dashboard_open: bool) -> Iterator[str]:
    for role in ("head", "worker"):
        try:
            yield from _start_faults(role, document[f"{role}_start_ray_commands"], dashboard_open)
        except ValueError as error:
            yield f"the {role}'s start commands are no shell: {error}"
    if not any("chmod 600" in command and "auth_token" in command for command in document["setup_commands"]):
        yield "the token file is not made unreadable for others"
    if _TOKEN not in document["file_mounts"]:
        yield "the token is not delivered to the nodes"
    installs = [command for command in document["setup_commands"] if "pip install" in command]
    pinned = [
        c for c in installs if re.search(r"ray\[[^\]]*\](==\d+\.\d+\.\d+| @ \S+#sha256=[0-9a-f]{64})", c)
    ]
    if not pinned:
        yield "Ray is not pinned to a release or a wheel's hash"
    if _NIGHTLY.search(" ".join(installs)):
        yield "a nightly or a moving version is installed"
    yield from _world(document)


def _start_faults(role: str, commands: list[str], dashboard_open: bool) -> Iterator[str]:
    """Each start is asked by itself: a token that one command is given opens nothing for another."""
    files = written(commands)
    # Ray's launcher gives each command a shell of its own.
    direct = [start for command in commands for start in starts(command, files)]
    units = unit_starts(files)
    if not any(start.runs("ray", "start") for start in (*direct, *chain(*units.values()))):
        yield f"the {role}: nothing starts Ray"
    for path, found in units.items():
        if not found:
            yield f"{path}: what it runs is not written down"
        for start in found:
            if start.words[0] not in _BUILT_IN:
                yield from (f"{path}: {fault}" for fault in _token_faults(start))
            yield from _dashboard_faults(start, dashboard_open)
    for start in direct:
        if start.runs("ray", "start") or start.runs("ray", "health-check"):
            yield from (f"the {role}: {fault}" for fault in _token_faults(start))
        yield from _dashboard_faults(start, dashboard_open)


def _token_faults(start: Start) -> Iterator[str]:
    program = " ".join(start.words[:4])
    if start.variables.get("RAY_AUTH_MODE") != "token":
        yield f"`{program}` starts without token authentication"
    if "RAY_AUTH_TOKEN" in start.variables:
        yield f"`{program}` is given the token itself, which the written file then holds"
    if home(start.variables.get("RAY_AUTH_TOKEN_PATH", _TOKEN)) != home(_TOKEN):
        yield f"`{program}` reads another token than the one that is delivered"


def _dashboard_faults(start: Start, dashboard_open: bool) -> Iterator[str]:
    said = re.search(r"--dashboard-host[= ](\S+)", " ".join(start.words))
    if said and said[1] not in _LOOPBACK and not dashboard_open:
        yield "the dashboard listens on all interfaces"


def _world(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _world(item)
    elif isinstance(value, list):
        for item in value:
            yield from _world(item)
    elif isinstance(value, str) and value in _WORLD:
        yield f"{value} may come in"


def _aws_faults(name: str, config: dict[str, Any]) -> Iterator[str]:
    if not config.get("SecurityGroupIds"):
        yield f"{name}: without a security group Ray makes one that opens SSH to the world"
    if config.get("MetadataOptions", {}).get("HttpTokens") != "required":
        yield f"{name}: the metadata service answers without a token"
    disks = config.get("BlockDeviceMappings") or [{}]
    if not all(disk.get("Ebs", {}).get("Encrypted") for disk in disks):
        yield f"{name}: a disk is not encrypted"
    if not config.get("IamInstanceProfile"):
        yield f"{name}: no instance profile; Ray's own may do anything with EC2 and S3"
    if not config.get("ImageId"):
        yield f"{name}: no ImageId; Ray's own image is years old"


def _gcp_faults(name: str, config: dict[str, Any]) -> Iterator[str]:
    accounts = config.get("serviceAccounts") or [{}]
    if not all(account.get("email") for account in accounts):
        yield f"{name}: no service account; the project's default one may edit everything"
    if not config.get("tags", {}).get("items"):
        yield f"{name}: no network tag; firewall rules cannot name the node"


def check_kuberay_security(documents: list[dict[str, Any]]) -> list[Finding]:
    """KubeRay's resources: token, network policy, no service of its own to the world, pods without powers."""
    faults = [
        f"{document['kind']}: {fault}"
        for document in documents
        if "spec" in document  # a ConfigMap starts nothing
        for fault in _kuberay_faults(document["spec"])
    ]
    return _told("kuberay", [*faults, *_world(documents)])


def _kuberay_faults(body: dict[str, Any]) -> Iterator[str]:
    cluster = body.get("rayClusterSpec") or body.get("rayClusterConfig") or body
    auth = cluster.get("authOptions", {})
    if auth.get("mode") != "token" or not auth.get("secretName"):
        yield "no token authentication with a Secret of one's own"
    if cluster.get("networkPolicy", {}).get("mode") not in ("DenyAll", "DenyAllIngress"):
        yield "no network policy denies what comes in"
    head = cluster["headGroupSpec"]
    if head.get("serviceType", "ClusterIP") != "ClusterIP" or head.get("enableIngress"):
        yield "the head has a way in from outside"
    for group in (head, *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        if group is not head and pod.get("automountServiceAccountToken") is not False:
            yield f"{group['groupName']}: a worker may ask the API server"
        if group is head:
            yield from _beside_faults(pod.get("initContainers", []))
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            powers = container.get("securityContext", {})
            if powers.get("allowPrivilegeEscalation") is not False or not powers.get("runAsNonRoot"):
                yield f"{container['name']}: may become root"
            if _NIGHTLY.search(container["image"]) or not re.search(r"[:@]", container["image"]):
                yield f"{container['name']}: image {container['image']} is not pinned"


def _beside_faults(containers: list[dict[str, Any]]) -> Iterator[str]:
    """What runs beside the head: the operator gives the token to Ray's own containers alone."""
    names = {container["name"] for container in containers}
    for missing in sorted({"rayplat-recorder", "rayplat-costs"} - names):
        yield f"{missing} does not run beside the head: nobody counts the costs"
    for container in containers:
        known = {one["name"]: one for one in container.get("env", [])}
        if known.get("RAY_AUTH_MODE", {}).get("value") != "token":
            yield f"{container['name']}: starts without token authentication"
        if "secretKeyRef" not in known.get("RAY_AUTH_TOKEN", {}).get("valueFrom", {}):
            yield f"{container['name']}: is not given the token out of a Secret"
        if container.get("restartPolicy") != "Always":
            yield f"{container['name']}: is not started again when it ends"


def _told(target: str, faults: list[str]) -> list[Finding]:
    if not faults:
        return [passed(target, "security", "closed to the world, token, roles, pins")]
    mend = f"run `rayplat cluster render {target}`"
    return [failed(target, "security", fault, mend) for fault in dict.fromkeys(faults)]

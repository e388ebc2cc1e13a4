"""The services of a bought head: Ray, the recorder and the steward of costs, each started again when it ends.

Knows systemd's unit files and the scripts that they run; it does not know what a service does, nor how
the machine was made ready (`commands`).
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from rayplat.cluster.spec import ClusterSpec

FOLDER = "$HOME/.rayplat"
HEAD = "rayplat-head"
_VARIABLES = f"{FOLDER}/head.env.sh"
_TOLD = f"{FOLDER}/head.told.sh"
_READY_S = 120
AUTOSCALER = f"{FOLDER}/autoscaler.yaml"
# Ray's launcher has put its own file there; the groups' limits over both markets are added.
_CAPPED = f"python -m rayplat.cluster.caps.config $HOME/ray_bootstrap_config.yaml {AUTOSCALER} || exit 1"


@dataclass(frozen=True, slots=True)
class Service:
    """A unit of systemd, and the line of shell that it runs."""

    unit: str
    what: str
    line: str
    before: str = ""


def services(ray_start: str) -> list[Service]:
    """The services of a head, Ray's own first.

    Args:
        ray_start: the command that starts the head and returns.
    """
    return [
        # As one: when any process of the head dies, all of it is started again over the same tables.
        Service(HEAD, "the head of the Ray cluster", f"{ray_start} --block", before=f"{_CAPPED}\n"),
        Service("rayplat-recorder", "records what the cluster runs", "python -m rayplat.cluster.recorder"),
        Service("rayplat-costs", "settles the costs and sees to the budgets", "rayplat cost watch"),
    ]


def store_variables(spec: ClusterSpec) -> dict[str, str]:
    """Where the control store keeps its tables, so that a head that is started again finds its cluster."""
    if spec.platform.head_store == "redis" and spec.platform.redis:
        return {
            "RAY_REDIS_ADDRESS": redis_address(spec.platform.redis),
            "RAY_external_storage_namespace": spec.name,
        }
    return {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": f"{FOLDER}/gcs"}


def redis_address(url: str) -> str:
    """A Redis URL as Ray writes it: host and port, with the scheme where it is encrypted."""
    parts = urlsplit(url)
    scheme = "rediss://" if parts.scheme == "rediss" else ""
    return f"{scheme}{parts.hostname}:{parts.port or 6379}"


def service_commands(found: list[Service], variables: str, token: Mapping[str, str]) -> list[str]:
    """The commands that end the services, write them down and start them; safe to run again.

    Args:
        found: the services.
        variables: lines of shell that set what all of them need.
        token: the variables with which Ray lets the question in whether it answers.
    """
    units = " ".join(service.unit for service in found)
    # Ray's launcher tells each command what the node is; a service would not hear it. What is set here
    # comes after it: nothing that the launcher was started with turns the token off.
    told = f'(umask 077; export -p | grep "^declare -x RAY_" > {_TOLD} || true)'
    variables = f". {_TOLD}\n{variables}"
    wait = " ".join(f"{key}={value}" for key, value in token.items())
    return [
        f"sudo systemctl stop {units} 2>/dev/null; {FOLDER}/venv/bin/ray stop",
        f"mkdir -p {FOLDER} && {_written(variables, _VARIABLES)} && {told}",
        *(_written(_script(one), f"{FOLDER}/{one.unit}.sh") for one in found),
        *(_installed(one) for one in found),
        f"sudo systemctl daemon-reload && sudo systemctl enable --now {units}",
        _awaited(wait),
    ]


def _awaited(variables: str) -> str:
    ask = f"env {variables} {FOLDER}/venv/bin/ray health-check --address 127.0.0.1:6379"
    loop = f"for i in $(seq {_READY_S}); do {ask} >/dev/null 2>&1 && exit 0; sleep 1; done"
    return f"{loop}; sudo journalctl -u {HEAD} -n 50 >&2; exit 1"


def _script(service: Service) -> str:
    return f". {_VARIABLES}\n{service.before}exec {service.line}\n"


def _written(text: str, path: str) -> str:
    return f"(umask 077; printf %s {shlex.quote(text)} > {path})"


def _installed(service: Service) -> str:
    lines = [
        "[Unit]",
        f"Description={service.what}",
        "After=network-online.target",
        "StartLimitIntervalSec=0",
        "[Service]",
        "User=@USER@",
        f"ExecStart=/bin/bash @HOME@/.rayplat/{service.unit}.sh",
        "Restart=always",
        "RestartSec=1",
        "LimitNOFILE=65536",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    text = shlex.quote("\n".join(lines) + "\n")
    here = 'sed -e "s|@USER@|$(id -un)|" -e "s|@HOME@|$HOME|"'
    return f"printf %s {text} | {here} | sudo tee /etc/systemd/system/{service.unit}.service >/dev/null"

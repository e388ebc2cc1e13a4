"""The shell commands that make a machine of AWS or GCP a node: Ray's pin, the token, the settings.

Knows what is run on such a node and in which order; it does not know how the machine was bought.
"""

import shlex
from typing import Any

from rayplat.cluster.render.services import AUTOSCALER, FOLDER, service_commands, services, store_variables
from rayplat.cluster.spec import ClusterSpec

TOKEN = "~/.ray/auth_token"  # noqa: S105  # a path, not a token; it is where Ray looks by itself
SECRETS = "~/.rayplat/secrets.env"
_CONSTRAINTS = "~/.rayplat/constraints.txt"
_VENV = "~/.rayplat/venv"
_WHEELS = "~/.rayplat/wheels"
_SPEC = "~/.rayplat/platform.yaml"
_SPEC_HERE = "cluster/platform.yaml"
_EXTRAS = "default,train,serve,tune,data"
GCS_PORT = 6379
DASHBOARD_PORT = 8265


def launcher_parts(spec: ClusterSpec, sdk: str) -> dict[str, Any]:
    """The keys of a launcher file that speak of files and commands.

    Args:
        spec: the cluster file.
        sdk: the package with which the head's autoscaler asks the cloud for nodes.
    """
    return {
        "file_mounts": _mounts(spec),
        "initialization_commands": [],
        "setup_commands": _setup(spec),
        "head_setup_commands": [
            f"{_VENV}/bin/pip install -c {_CONSTRAINTS} {shlex.quote(sdk)} {_WHEELS}/rayplat-*.whl"
        ],
        "worker_setup_commands": [],
        "head_start_ray_commands": _start_services(spec),
        "worker_start_ray_commands": [f"{_VENV}/bin/ray stop", _start_worker(spec)],
    }


def _mounts(spec: ClusterSpec) -> dict[str, str]:
    found = {TOKEN: spec.network.token, _CONSTRAINTS: spec.ray.constraints}
    found |= {_WHEELS: spec.platform.wheels, _SPEC: _SPEC_HERE}
    if spec.platform.secrets_file:
        found[SECRETS] = spec.platform.secrets_file
    return found


def _setup(spec: ClusterSpec) -> list[str]:
    python = f"python{spec.ray.python}"
    ray = f"ray[{_EXTRAS}] @ {spec.ray.wheel}" if spec.ray.wheel else f"ray[{_EXTRAS}]=={spec.ray.version}"
    secret = [TOKEN, *([SECRETS] if spec.platform.secrets_file else [])]
    absent = f"echo 'the machine image has no {python}: choose one that has' >&2; exit 1"
    return [
        # The token lets its holder run code: nobody else on the node may read it.
        f"chmod 700 ~/.ray ~/.rayplat && chmod 600 {' '.join(secret)}",
        f"command -v {python} || {{ {absent}; }}",
        f"test -x {_VENV}/bin/python || {python} -m venv {_VENV}",
        f"{_VENV}/bin/pip install --disable-pip-version-check -c {_CONSTRAINTS} {shlex.quote(ray)}",
    ]


def _variables(spec: ClusterSpec) -> list[str]:
    exports = {"RAY_USAGE_STATS_ENABLED": "0", **spec.platform.environment}
    parts = [f"export {' '.join(f'{key}={shlex.quote(value)}' for key, value in exports.items())}"]
    if spec.platform.secrets_file:
        parts.append(f"set -a; . {SECRETS}; set +a")
    return [
        *parts,
        # After everything that is read in: no file turns the token off.
        "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token",
        # A job's `python` is the interpreter of the node.
        "export PATH=$HOME/.rayplat/venv/bin:$PATH",
        "ulimit -n 65536",
    ]


def _start_services(spec: ClusterSpec) -> list[str]:
    own = {
        **store_variables(spec),
        # The home tells this cluster's nodes from those of others in the same database.
        "RAYPLAT_HOME": f"{FOLDER}/{spec.name}",
        "RAYPLAT_RAY__ADDRESS": f"127.0.0.1:{GCS_PORT}",
        "RAYPLAT_RAY__SPEC": f"{FOLDER}/platform.yaml",
    }
    lines = [*_variables(spec), *(f'export {key}="{value}"' for key, value in own.items())]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "$HOME/.ray/auth_token"}
    return service_commands(services(_start_head(spec)), "\n".join(lines) + "\n", token)


def _start_head(spec: ClusterSpec) -> str:
    # Without a network that may come in, dashboard and jobs API listen on the head's loopback alone.
    host = "0.0.0.0" if spec.network.dashboard_from else "127.0.0.1"  # noqa: S104
    known = ' ${REDIS_PASSWORD:+"--redis-password=$REDIS_PASSWORD"}'
    return (
        f"ray start --head --port={GCS_PORT} --object-manager-port=8076 "
        f'--autoscaling-config="{AUTOSCALER}" '
        f"--dashboard-host={host} --dashboard-port={DASHBOARD_PORT} --disable-usage-stats"
        f"{known if spec.platform.head_store == 'redis' else ''}"
    )


def _start_worker(spec: ClusterSpec) -> str:
    start = f"ray start --address=$RAY_HEAD_IP:{GCS_PORT} --object-manager-port=8076 --disable-usage-stats"
    return "; ".join([*_variables(spec), start])

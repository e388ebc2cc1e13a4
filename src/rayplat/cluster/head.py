"""The head of a local Ray: the command that starts it, and the record of what it listens on.

Knows Ray's command line and its session folder; it does not know when a head is wanted, nor who starts
its control store again (`local.supervisor`).
"""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from rayplat.cluster.head_store import empty, head_store
from rayplat.cluster.processes import ProcessRecord, child_environment, ours, running, wait_until
from rayplat.cluster.spec import ClusterSpec
from rayplat.cluster.token import client_environment
from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import as_environment, process_environment
from rayplat.core.short_paths import short_path

SUPERVISOR = "supervisor"
RECORDER = "recorder"
_START_S = 120.0
_HEAL_S = 20.0
_MEND = "read the newest logs below the session folder, or run `rayplat doctor`"


@dataclass(frozen=True, slots=True)
class Head:
    """A running head.

    Attributes:
        pid: of its control store (the GCS), with its start time in `started`.
        raylet: the process id of the head's own raylet, with its start time in `raylet_started`.
        simulated: its other nodes come and go as processes of this machine.
    """

    address: str
    dashboard: str
    pid: int
    started: float
    session: str
    raylet: int = 0
    raylet_started: float = 0.0
    simulated: bool = False

    def alive(self) -> bool:
        """Whether this very head still runs, its control store included."""
        return self.store().alive() and self.has_raylet()

    def has_raylet(self) -> bool:
        """Whether the head's raylet runs: without it nothing is left that a control store could lead."""
        return ProcessRecord("raylet", self.raylet, self.raylet_started).alive()

    def store(self) -> ProcessRecord:
        """The process of the control store."""
        return ProcessRecord("gcs_server", self.pid, self.started)


def ray_folder(settings: Settings) -> Path:
    """Ray's own folder: short, since a Unix socket's path may have 107 characters and no more."""
    return short_path(settings.home)


def read_head(settings: Settings) -> Head | None:
    """The recorded head if it runs, else None. One whose store is being started again is waited for."""
    head = recorded_head(settings)
    if head is None or head.alive():
        return head
    if not head.has_raylet() or running(settings, SUPERVISOR) is None:
        return None
    try:
        for _ in wait_until(_HEAL_S, "the head's control store", _MEND):
            head = recorded_head(settings)
            if head is None or head.alive():
                return head
            if not head.has_raylet():
                break
    except UnavailableError:
        return None
    return None


def recorded_head(settings: Settings) -> Head | None:
    """The head as it is written down, whether it runs or not."""
    path = settings.run_dir / "ray.json"
    return Head(**json.loads(path.read_text())) if path.exists() else None


def write_head(settings: Settings, head: Head) -> None:
    """Write a head down atomically."""
    path = settings.run_dir / "ray.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(head)))
    draft.replace(path)


def forget_head(settings: Settings) -> None:
    """Remove the records, and Ray's folder with its sockets and logs."""
    for name in ("ray.json", "components.json"):
        (settings.run_dir / name).unlink(missing_ok=True)
    shutil.rmtree(ray_folder(settings), ignore_errors=True)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def ray_environment(settings: Settings, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of Ray's own processes, and of commands that are run beside them."""
    return child_environment(
        settings,
        {
            **client_environment(settings),
            **as_environment(settings),
            # `python` in a job's command is the interpreter that started the cluster.
            "PATH": f"{Path(sys.executable).parent}:{process_environment().get('PATH', '')}",
            **(extra or {}),
        },
    )


def _command(settings: Settings, spec: ClusterSpec, dashboard_port: int, port: int) -> list[str]:
    ray = Path(sys.executable).parent / "ray"
    return [
        str(ray),
        "start",
        "--head",
        f"--port={port}",
        f"--dashboard-host={settings.ray.bind}",
        f"--dashboard-port={dashboard_port}",
        "--include-dashboard=true",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--ray-client-server-port={free_port()}",
        f"--temp-dir={ray_folder(settings)}",
        f"--num-cpus={head_cpus(settings, spec)}",
        f"--object-store-memory={settings.ray.object_store_mib * 1024 * 1024}",
        "--disable-usage-stats",
        *([f"--num-gpus={spec.local.gpus}"] if spec.local.gpus else []),
    ]


def head_cpus(settings: Settings, spec: ClusterSpec) -> int:
    """Logical CPUs of the head: the setting's, else the cluster file's, else the machine's."""
    return settings.ray.cpus or spec.local.cpus or psutil.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a head with simulated nodes is given in addition: arguments and variables."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str]


def start_head(settings: Settings, spec: ClusterSpec, port: int, simulation: Simulation | None) -> Head:
    """Start a head on this machine and wait until it and its dashboard answer.

    Args:
        port: of its control store.
        simulation: None for the one node that a laptop has.

    Raises:
        UnavailableError: Ray did not start, or does not answer within two minutes.
    """
    ray_folder(settings).mkdir(mode=0o700, exist_ok=True)
    dashboard_port = settings.ray.dashboard_port or free_port()
    added = simulation or Simulation((), {})
    store = head_store(settings, spec, str(ray_folder(settings)))
    empty(settings, store)
    ports = {"AUTOSCALER_METRIC_PORT": str(free_port()), "DASHBOARD_METRIC_PORT": str(free_port())}
    try:
        done = subprocess.run(
            [*_command(settings, spec, dashboard_port, port), *store.arguments, *added.arguments],
            env=ray_environment(settings, {**ports, **store.variables, **added.variables}),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_START_S,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"Ray did not start within {_START_S:.0f} s", _MEND) from error
    if done.returncode != 0:
        raise UnavailableError(f"Ray did not start: {(done.stderr or done.stdout).strip()[-800:]}", _MEND)
    control_store, raylet = _store_and_raylet(settings)
    wait_for_port(settings.ray.bind, dashboard_port, "the dashboard")
    head = Head(
        address=(ray_folder(settings) / "ray_current_cluster").read_text().strip(),
        dashboard=f"http://{settings.ray.bind}:{dashboard_port}",
        pid=control_store.pid,
        started=control_store.create_time(),
        session=str((ray_folder(settings) / "session_latest").resolve()),
        raylet=raylet.pid,
        raylet_started=raylet.create_time(),
        simulated=simulation is not None,
    )
    write_head(settings, head)
    return head


def _store_and_raylet(settings: Settings) -> tuple[psutil.Process, psutil.Process]:
    """The control store and the raylet of its own node; simulated nodes may have raylets already."""
    found = ours(settings)
    store = next(p for p in found if p.name() == "gcs_server")
    node_id = next(a.partition("=")[2] for a in store.cmdline() if a.startswith("--node-id="))
    return store, next(p for p in found if p.name() == "raylet" and f"--node_id={node_id}" in p.cmdline())


def wait_for_port(host: str, port: int, what: str) -> None:
    """Wait until somebody listens on a port.

    Raises:
        UnavailableError: nobody does within a minute.
    """
    for _ in wait_until(_START_S, f"{what} at {host}:{port}", _MEND):
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((host, port)) == 0:
                return

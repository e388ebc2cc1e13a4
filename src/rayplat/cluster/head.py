"""The head of a local Ray: the command that starts it, and the record of what it listens on.

Knows Ray's command line and its session folder; it does not know when a head is wanted.
"""

import hashlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from rayplat.cluster.processes import child_environment, ours, wait_until
from rayplat.cluster.spec import LocalSpec
from rayplat.cluster.token import client_environment
from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import as_environment, process_environment

_START_S = 60.0
_MEND = "read the newest logs below the session folder, or run `rayplat doctor`"


@dataclass(frozen=True, slots=True)
class Head:
    """A running head. `pid` and `started` are those of its control store (the GCS)."""

    address: str
    dashboard: str
    pid: int
    started: float
    session: str

    def alive(self) -> bool:
        """Whether this very head still runs."""
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) < 1.0)
        except psutil.Error:
            return False


def ray_folder(settings: Settings) -> Path:
    """Ray's own folder: short, since a Unix socket's path may have 107 characters and no more."""
    digest = hashlib.sha256(str(settings.home).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"rayplat-{digest}"


def read_head(settings: Settings) -> Head | None:
    """The recorded head if it runs, else None."""
    path = settings.run_dir / "ray.json"
    if not path.exists():
        return None
    head = Head(**json.loads(path.read_text()))
    return head if head.alive() else None


def forget_head(settings: Settings) -> None:
    """Remove the record, and Ray's folder with its sockets and logs."""
    (settings.run_dir / "ray.json").unlink(missing_ok=True)
    shutil.rmtree(ray_folder(settings), ignore_errors=True)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _command(settings: Settings, local: LocalSpec, dashboard_port: int) -> list[str]:
    folder = ray_folder(settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    ray = Path(sys.executable).parent / "ray"
    return [
        str(ray),
        "start",
        "--head",
        "--port=0",
        f"--dashboard-host={settings.ray.bind}",
        f"--dashboard-port={dashboard_port}",
        "--include-dashboard=true",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--ray-client-server-port={free_port()}",
        f"--temp-dir={folder}",
        f"--num-cpus={settings.ray.cpus or local.cpus or psutil.cpu_count() or 1}",
        f"--object-store-memory={settings.ray.object_store_mib * 1024 * 1024}",
        "--disable-usage-stats",
        *([f"--num-gpus={local.gpus}"] if local.gpus else []),
    ]


def start_head(settings: Settings, local: LocalSpec) -> Head:
    """Start a head on this machine and wait until it and its dashboard answer.

    Raises:
        UnavailableError: Ray did not start, or does not answer within a minute.
    """
    dashboard_port = settings.ray.dashboard_port or free_port()
    environment = child_environment(
        settings,
        {
            **client_environment(settings),
            **as_environment(settings),
            "AUTOSCALER_METRIC_PORT": str(free_port()),
            "DASHBOARD_METRIC_PORT": str(free_port()),
            # `python` in a job's command is the interpreter that started the cluster.
            "PATH": f"{Path(sys.executable).parent}:{process_environment().get('PATH', '')}",
        },
    )
    done = subprocess.run(
        _command(settings, local, dashboard_port),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=_START_S,
    )
    if done.returncode != 0:
        raise UnavailableError(f"Ray did not start: {(done.stderr or done.stdout).strip()[-800:]}", _MEND)
    address = (ray_folder(settings) / "ray_current_cluster").read_text().strip()
    dashboard = f"http://{settings.ray.bind}:{dashboard_port}"
    store = next(p for p in ours(settings) if p.name() == "gcs_server")
    _wait_for_port(settings.ray.bind, dashboard_port)
    session = str((ray_folder(settings) / "session_latest").resolve())
    head = Head(address, dashboard, store.pid, store.create_time(), session)
    path = settings.run_dir / "ray.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(head)))
    draft.replace(path)
    return head


def _wait_for_port(host: str, port: int) -> None:
    for _ in wait_until(_START_S, f"the dashboard at {host}:{port}", _MEND):
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((host, port)) == 0:
                return

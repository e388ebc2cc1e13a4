"""The processes of a head that can be started again: how each was started, written down.

Knows their command lines and the few variables that are theirs; it does not know when one is started
again. The environment as a whole is not written down: it may hold passwords.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from rayplat.cluster.head import Head, ray_environment
from rayplat.cluster.processes import ProcessRecord, ours
from rayplat.core.settings import Settings

STORE = "gcs_server"
_SCRIPTS = {"dashboard.py": "dashboard", "monitor.py": "autoscaler", "log_monitor.py": "log_monitor"}
_KEPT = ("RAY_", "AUTOSCALER_", "DASHBOARD_", "LD_PRELOAD")
_OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class Component:
    """A process of the head, with what starts it again."""

    process: ProcessRecord
    argv: tuple[str, ...]
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """`gcs_server`, `dashboard`, `autoscaler` or `log_monitor`."""
        return self.process.name


def find_components(settings: Settings, head: Head) -> list[Component]:
    """The components of a head that has just been started, its control store first."""
    found = {}
    for process in ours(settings):
        try:
            name = _name(process)
            if name is not None and name not in found:
                found[name] = _component(name, process, head)
        except (psutil.Error, IndexError):
            continue
    return sorted(found.values(), key=lambda one: (one.name != STORE, one.name))


def _name(process: psutil.Process) -> str | None:
    if process.name() == STORE:
        return STORE
    # A script's children (the dashboard forks several) have its arguments, or titles of their own.
    scripts = [_SCRIPTS.get(Path(part).name) for part in process.cmdline()[:3]]
    return next((name for name in scripts if name), None)


def _component(name: str, process: psutil.Process, head: Head) -> Component:
    # The control store was given port 0, or one that was free: it must come back at the one that it took.
    port = head.address.rpartition(":")[2]
    argv = [
        f"--gcs_server_port={port}" if part.startswith("--gcs_server_port=") else part
        for part in process.cmdline()
    ]
    kept = {key: value for key, value in process.environ().items() if key.startswith(_KEPT)}
    return Component(ProcessRecord(name, process.pid, process.create_time()), tuple(argv), kept)


def restart(settings: Settings, component: Component) -> Component:
    """Start a component again, in a session of its own."""
    child = subprocess.Popen(
        list(component.argv),
        env=ray_environment(settings, component.variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    started = psutil.Process(child.pid).create_time()
    child.returncode = 0  # who started it takes its exit code; no warning is due
    return replace(component, process=ProcessRecord(component.name, child.pid, started))


def write_components(settings: Settings, components: list[Component]) -> None:
    """Write the components down, for their owner only."""
    path = settings.run_dir / "components.json"
    draft = path.with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps([asdict(one) for one in components]))
    draft.replace(path)


def read_components(settings: Settings) -> list[Component]:
    """The components as they are written down; none if there is no such file."""
    path = settings.run_dir / "components.json"
    if not path.exists():
        return []
    return [
        Component(ProcessRecord(**raw["process"]), tuple(raw["argv"]), raw["variables"])
        for raw in json.loads(path.read_text())
    ]

"""`rayplat doctor`: every check, one after the other; a check never stops the next.

Knows the order of the checks; each is a small function beside this file.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rayplat.cli.command import Call, command, single
from rayplat.cli.doctor.finding import Finding, Outcome, fail, ok
from rayplat.core.errors import RayplatError

if TYPE_CHECKING:
    from rayplat.core.settings import Settings

app = single()

_STYLE = {Outcome.OK: "green", Outcome.WARN: "yellow", Outcome.FAIL: "bold red"}


@command(app)
def doctor(call: Call) -> None:
    """Check the machine and the platform; each fault is told with its mend. Exit code 1 if any fails."""
    found = examine(call.settings)
    call.show({"findings": found, "healthy": healthy(found)}, lambda: _text(found))
    if not healthy(found):
        raise typer.Exit(1)


def examine(load: "Callable[[], Settings]") -> list[Finding]:
    """Run every check; those of the platform's places only if the settings load."""
    import psutil

    from rayplat.cli.doctor import machine

    found = [
        machine.check_python(sys.version_info[:3]),
        machine.check_cores(os.cpu_count() or 1),
        machine.check_memory(psutil.virtual_memory().available),
        _safely("packages", machine.check_packages),
        _safely("loopback", machine.check_loopback),
    ]
    try:
        settings = load()
    except RayplatError as error:
        return [*found, fail("settings", error.what, error.mend)]
    found.append(ok("settings", f"home is {settings.home}"))
    disk = shutil.disk_usage(_nearest(settings.home)).free
    found.append(machine.check_disk(disk, settings.home))
    return [*found, *_places(settings)]


def healthy(found: list[Finding]) -> bool:
    """Whether no check failed; warnings do not count."""
    return all(finding.outcome is not Outcome.FAIL for finding in found)


def _places(settings: "Settings") -> list[Finding]:
    from rayplat.cli.doctor import places

    owners = places.own_processes(settings)
    ports = {
        "serve.port": (settings.serve.host, settings.serve.port),
        "ray.dashboard_port": (settings.ray.bind, settings.ray.dashboard_port),
    }
    return [
        _safely("warehouse", lambda: places.check_warehouse(settings)),
        _safely("database", lambda: places.check_database(settings)),
        _safely("token", lambda: places.check_token(settings)),
        *[
            _safely(f"port {name}", lambda n=name, h=host, p=port: places.check_port(n, h, p, owners))
            for name, (host, port) in ports.items()
        ],
        _safely("kafka", lambda: places.check_kafka(settings)),
        _safely("leftovers", lambda: places.check_leftovers(settings)),
    ]


def _safely(check: str, work: Callable[..., Finding]) -> Finding:
    try:
        return work()
    except Exception as error:
        # A check that cannot be made is itself a finding; the others must still be told.
        return fail(check, f"could not be checked: {type(error).__name__}: {error}", "look at the cause")


def _nearest(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


def _text(found: list[Finding]) -> Any:
    from rich.table import Table
    from rich.text import Text

    shown = Table.grid(padding=(0, 2))
    for finding in found:
        shown.add_row(
            Text(finding.outcome.value, style=_STYLE[finding.outcome]),
            Text(finding.check),
            Text(finding.seen),
        )
        if finding.mend:
            shown.add_row("", "", Text(f"mend: {finding.mend}", style="green"))
    return shown

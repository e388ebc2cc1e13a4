"""Checks of the machine: Python, cores, memory, disk, packages, loopback.

Knows what the platform needs of a machine; the platform's own state is checked in `places`.
"""

import re
import socket
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from rayplat.cli.doctor.finding import Finding, fail, ok, warn

_GIB = 2**30
_LEAST_PYTHON = (3, 11)
_LEAST_MEMORY_GIB, _GOOD_MEMORY_GIB = 3.0, 6.0
_LEAST_DISK_GIB, _GOOD_DISK_GIB = 1.0, 5.0


def check_python(found: tuple[int, int, int]) -> Finding:
    """Python 3.11 or newer."""
    seen = ".".join(str(part) for part in found)
    if found[:2] < _LEAST_PYTHON:
        return fail("python", seen, "install Python 3.11 or newer, and make the environment anew with it")
    return ok("python", seen)


def check_cores(cores: int) -> Finding:
    """Two cores let a worker and the rest run at the same time."""
    if cores < 2:
        return warn("cores", f"{cores}", "works, slowly: 2 or more are better")
    return ok("cores", f"{cores}")


def check_memory(available: int) -> Finding:
    """Memory that is free for new processes, in bytes."""
    gib, seen = available / _GIB, f"{available / _GIB:.1f} GiB available"
    if gib < _LEAST_MEMORY_GIB:
        return fail("memory", seen, f"free some: {_LEAST_MEMORY_GIB:.0f} GiB are the least")
    if gib < _GOOD_MEMORY_GIB:
        return warn("memory", seen, f"{_GOOD_MEMORY_GIB:.0f} GiB are better; else lower ray.object_store_mib")
    return ok("memory", seen)


def check_disk(free: int, folder: Path) -> Finding:
    """Disk that is free where the home is, in bytes."""
    gib, seen = free / _GIB, f"{free / _GIB:.1f} GiB free for {folder}"
    if gib < _LEAST_DISK_GIB:
        return fail("disk", seen, "free some, or set home to a folder on another disk")
    if gib < _GOOD_DISK_GIB:
        return warn("disk", seen, f"{_GOOD_DISK_GIB:.0f} GiB are better")
    return ok("disk", seen)


def check_loopback(name: str = "localhost") -> Finding:
    """`localhost` means this machine, and a connection to it works."""
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()
    except OSError as error:
        return fail("loopback", f"{name}: {error}", f"add '127.0.0.1 {name}' to /etc/hosts and bring lo up")
    strange = sorted(a for a in addresses if not (a.startswith("127.") or a == "::1"))
    if strange:
        return fail("loopback", f"{name} is {', '.join(strange)}", f"let {name} be 127.0.0.1 in /etc/hosts")
    return ok("loopback", f"{name} is {', '.join(sorted(addresses))}")


def check_packages(package: str = "rayplat") -> Finding:
    """Every required package is installed in the range that `package` asks for."""
    try:
        return judge_packages(requires(package) or [])
    except PackageNotFoundError:
        return fail("packages", f"{package} is not installed", "pip install -c constraints.txt -e .")


def judge_packages(requirements: Iterable[str]) -> Finding:
    """Judge requirements such as `ray[data]>=2.60,<2.61`; those of extras count only if installed."""
    from packaging.requirements import Requirement

    wrong, checked = [], 0
    for text in requirements:
        requirement = Requirement(text)
        optional = bool(requirement.marker and re.search(r"\bextra\b", str(requirement.marker)))
        if not optional and requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            if not optional:
                wrong.append(f"{requirement.name} is missing")
            continue
        checked += 1
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, not {requirement.specifier}")
    if wrong:
        return fail("packages", "; ".join(sorted(set(wrong))), "pip install -c constraints.txt -e '.[dev]'")
    return ok("packages", f"{checked} as required")

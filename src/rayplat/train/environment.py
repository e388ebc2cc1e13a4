"""What a run's result depends on besides data and code: installed packages and the machine.

Knows how both are read and compared; it does not know what is done with differences (`reproduce`).
"""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

_MOST_TOLD = 8


def environment_lock() -> str:
    """Every installed distribution as `name==version`, a line each, sorted."""
    found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))


def hardware() -> dict[str, str]:
    """What this process computes on: processor, its kind of arithmetic, and the GPU where there is one."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "cpu": _processor(),
        "vector": str(torch.backends.cpu.get_cpu_capability()),
        "gpu": gpu,
        "cuda": str(torch.version.cuda or "none"),
        "threads": str(torch.get_num_threads()),
        "os": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or os.name


def lock_changes(then: str, now: str) -> list[str]:
    """What differs between two locks, in words, a line each; few lines, and how many more there are."""
    before, after = _packages(then), _packages(now)
    changes = [
        f"environment: {name} was {before.get(name, 'missing')} and is {after.get(name, 'missing')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    more = len(changes) - _MOST_TOLD
    return changes[:_MOST_TOLD] + ([f"environment: {more} more packages differ"] if more > 0 else [])


def changes(subject: str, then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two descriptions, in words, a line each."""
    return [
        f"{subject}: {name} was {then.get(name, 'unknown')} and is {now.get(name, 'unknown')}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def _packages(lock: str) -> dict[str, str]:
    parted = (line.partition("==") for line in lock.splitlines() if "==" in line)
    return {name: version for name, _, version in parted}

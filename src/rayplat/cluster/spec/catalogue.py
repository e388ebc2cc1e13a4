"""The machines that AWS and GCP rent: CPUs, memory, GPUs and accelerator of each type.

Knows the two tables beside it and which machine fits a group; it does not know prices, nor which
region has a machine.
"""

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from rayplat.cluster.spec.groups import NodeGroup

Cloud = Literal["aws", "gcp"]
KEY: dict[Cloud, str] = {"aws": "instance_type", "gcp": "machine_type"}
_MOST_WASTE = 2
"""A machine that is named may have less than twice the CPUs of its group; more is a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One row of a table. A GCP machine type may stand there several times, with other GPUs attached."""

    type: str
    cpus: int
    memory_gib: float
    gpus: int
    accelerator: str | None

    def __str__(self) -> str:
        gpus = f", {self.gpus} {self.accelerator}" if self.gpus else ""
        return f"{self.type} ({self.cpus} CPUs, {self.memory_gib:g} GiB{gpus})"


@dataclass(frozen=True, slots=True)
class NoMachineError(Exception):
    """No machine of a cloud is what the group says."""

    what: str
    mend: str


@cache
def machines(cloud: Cloud) -> tuple[Machine, ...]:
    """Every machine of a cloud, in the order of preference among equals."""
    text = (files("rayplat.cluster.spec") / "instances" / f"{cloud}.csv").read_text(encoding="utf-8")
    return tuple(
        Machine(
            row[KEY[cloud]],
            int(row["cpus"]),
            float(row["memory_gib"]),
            int(row["gpus"]),
            row["accelerator"] or None,
        )
        for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    )


def named(group: NodeGroup, cloud: Cloud) -> str | None:
    """The machine that the group names for a cloud."""
    return group.aws.instance_type if cloud == "aws" else group.gcp.machine_type


def choose(group: NodeGroup, cloud: Cloud) -> Machine:
    """The machine for a group: the one that it names, or the smallest that has what it says.

    Raises:
        NoMachineError: the named one is unknown or does not match, or no machine does.
    """
    name = named(group, cloud)
    return _smallest(group, cloud) if name is None else _matching(group, cloud, name)


def _smallest(group: NodeGroup, cloud: Cloud) -> Machine:
    fitting = [m for m in machines(cloud) if _accelerated(m, group) and _large_enough(m, group)]
    if fitting:
        return min(fitting, key=lambda m: (m.cpus, m.memory_gib))
    same = [m for m in machines(cloud) if _accelerated(m, group)]
    wanted = f"{group.gpus} {group.accelerator}" if group.gpus else "no GPU"
    if same:
        largest = max(same, key=lambda m: (m.cpus, m.memory_gib))
        raise NoMachineError(
            f"no machine of {cloud} with {wanted} has {group.cpus} CPUs and {group.memory_gib:g} GiB",
            f"the largest is {largest}: lower cpus or memory_gib",
        )
    there = sorted({f"{m.gpus} {m.accelerator}" for m in machines(cloud) if m.gpus})
    raise NoMachineError(
        f"no machine of {cloud} has {wanted}",
        f"there is: {', '.join(there)}; or write `{cloud}: {{skip: true}}` into the group",
    )


def _matching(group: NodeGroup, cloud: Cloud, name: str) -> Machine:
    rows = [m for m in machines(cloud) if m.type == name]
    if not rows:
        close = difflib.get_close_matches(name, {m.type for m in machines(cloud)}, n=1, cutoff=0.5)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise NoMachineError(
            f"{KEY[cloud]} {name!r} is not in the catalogue of {cloud}",
            f"{meant}remove the key, and the smallest machine that fits is chosen",
        )
    for machine in rows:
        if (
            _accelerated(machine, group)
            and _large_enough(machine, group)
            and machine.cpus < _MOST_WASTE * max(group.cpus, 2)
        ):
            return machine
    gpus = f" and {group.gpus} {group.accelerator}" if group.gpus else " and no GPU"
    says = f"{group.cpus} CPUs, {group.memory_gib:g} GiB{gpus}"
    raise NoMachineError(
        f"{KEY[cloud]} {', or '.join(map(str, rows))} is not what the group says: {says}",
        _nearest(group, cloud),
    )


def _nearest(group: NodeGroup, cloud: Cloud) -> str:
    try:
        return f"write {_smallest(group, cloud).type}, or make the group's cpus, memory_gib and gpus match"
    except NoMachineError as none:
        return none.mend


def _accelerated(machine: Machine, group: NodeGroup) -> bool:
    return machine.gpus == group.gpus and (not group.gpus or machine.accelerator == group.accelerator)


def _large_enough(machine: Machine, group: NodeGroup) -> bool:
    return machine.cpus >= group.cpus and machine.memory_gib >= group.memory_gib

"""Prices: what a node of a group costs an hour on each market, and since when.

Knows price files and the cluster file's own prices; it does not know what was used. A group without a
price is an error, never free.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from rayplat.core.errors import UserError
from rayplat.cost.money import nano

if TYPE_CHECKING:
    from rayplat.cluster.spec import ClusterSpec, NodeGroup

MARKETS = ("on-demand", "spot")
LISTS = ("aws", "gcp")
_COLUMNS = ["machine", "gpus", "accelerator", "on_demand", "spot"]
MachineKey = tuple[str, int, str]
"""Machine type, GPUs, accelerator: GCP attaches other GPUs to one type."""


class UnknownPriceError(UserError):
    """A node was used that nobody has named a price for."""


@dataclass(frozen=True, slots=True, order=True)
class PriceStep:
    """A price from a moment on (microseconds since 1970), nano-dollars an hour."""

    since: int
    nano_per_hour: int


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The prices of every group and market through time.

    Attributes:
        steps: by (group, market), in order of time; the first is for all of the time before the second.
        source: where they come from, for people.
        no_spot: groups that nobody has named a spot price for; theirs is the price on demand.
    """

    steps: Mapping[tuple[str, str], tuple[PriceStep, ...]]
    source: str = ""
    no_spot: frozenset[str] = frozenset()

    def of(self, group: str, market: str) -> tuple[PriceStep, ...]:
        """The steps of a group on a market.

        Raises:
            UnknownPriceError: nobody has named a price.
        """
        found = self.steps.get((group, market))
        if not found:
            raise UnknownPriceError(
                f"group {group!r} has no {market} price",
                f"write it into the cluster file: prices: {{own: {{{group}: {{on_demand: 0.20}}}}}}",
            )
        return found

    def at(self, group: str, market: str, moment: int) -> int:
        """The price at a moment, nano-dollars an hour."""
        steps = self.of(group, market)
        return next((s.nano_per_hour for s in reversed(steps) if s.since <= moment), steps[0].nano_per_hour)


@dataclass(frozen=True, slots=True)
class PriceList:
    """One price file: nano-dollars an hour by machine; None where the file names no spot price."""

    source: str
    prices: Mapping[MachineKey, tuple[int, int | None]]


def read_list(text: str, file: str) -> PriceList:
    """A price file: `#` lines say source and date, then machine,gpus,accelerator,on_demand,spot.

    Raises:
        UserError: a line is not of this form; it is named.
    """
    lines = text.splitlines()
    source = " ".join(line.lstrip("# ").strip() for line in lines if line.startswith("#"))
    rows = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not rows or next(csv.reader([rows[0][1]])) != _COLUMNS:
        raise UserError(f"{file} is no price file", f"its first row is {','.join(_COLUMNS)}")
    prices: dict[MachineKey, tuple[int, int | None]] = {}
    for number, line in rows[1:]:
        try:
            machine, gpus, accelerator, on_demand, spot = next(csv.reader([line]))
            key = (machine, int(gpus), accelerator)
            prices[key] = (_price(on_demand), _price(spot) if spot else None)
        except (ValueError, InvalidOperation) as error:
            raise UserError(
                f"{file}:{number} is no price: {line!r}", f"write {','.join(_COLUMNS)}, USD an hour"
            ) from error
    return PriceList(source or file, prices)


def _price(text: str) -> int:
    amount = Decimal(text)
    if not amount.is_finite() or amount < 0:
        raise ValueError(text)
    return nano(amount)


def load_list(name: str) -> PriceList:
    """The list prices that come with rayplat (`aws`, `gcp`), or a file.

    Raises:
        UserError: there is no such file, or it is no price file.
    """
    if name in LISTS:
        path = files("rayplat.cost") / "data" / f"{name}.csv"
        return read_list(path.read_text(encoding="utf-8"), f"{name}.csv")
    try:
        return read_list(Path(name).read_text(encoding="utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the price file {name} cannot be read: {error}", "name aws, gcp, or a CSV file in prices.file"
        ) from error


def book_of(spec: "ClusterSpec") -> PriceBook:
    """The prices of a cluster file's groups as they are now.

    Own prices win. Else the machine of the group has its list price on the cluster's cloud: AWS where
    there is an `aws` part or none at all, else GCP. A group whose machine is not in the list is left out:
    it is an error once a node of it is to be paid.

    Raises:
        UserError: the price file is at fault.
    """
    cloud = "gcp" if spec.gcp is not None and spec.aws is None else "aws"
    name = spec.prices.file or cloud
    machine_cloud = name if name in LISTS else cloud
    steps: dict[tuple[str, str], tuple[PriceStep, ...]] = {}
    no_spot: set[str] = set()
    listed: PriceList | None = None
    for group, nodes in spec.groups.items():
        own = spec.prices.own.get(group)
        if own is not None:
            on_demand, spot = nano(own.on_demand), None if own.spot is None else nano(own.spot)
        else:
            listed = listed or load_list(name)
            found = _listed(listed, nodes, machine_cloud)
            if found is None:
                continue
            on_demand, spot = found
        steps[group, "on-demand"] = (PriceStep(0, on_demand),)
        # Nobody publishes a list price for AWS's spot market: what is not named is paid as on demand.
        steps[group, "spot"] = (PriceStep(0, on_demand if spot is None else spot),)
        if spot is None:
            no_spot.add(group)
    source = f"own prices; {listed.source}" if listed and spec.prices.own else _source(listed)
    return PriceBook(steps, source, frozenset(no_spot))


def _source(listed: PriceList | None) -> str:
    return listed.source if listed else "own prices"


def _listed(listed: PriceList, group: "NodeGroup", cloud: str) -> tuple[int, int | None] | None:
    from rayplat.cluster.spec.catalogue import NoMachineError, choose

    try:
        machine = choose(group, "gcp" if cloud == "gcp" else "aws")
    except NoMachineError:
        return None
    return listed.prices.get((machine.type, machine.gpus, machine.accelerator or ""))


def joined(history: Iterable[tuple[str, str, int, int]], source: str) -> PriceBook:
    """A book of (group, market, since, nano-dollars an hour) rows, in any order."""
    steps: dict[tuple[str, str], list[PriceStep]] = {}
    for group, market, since, price in history:
        steps.setdefault((group, market), []).append(PriceStep(since, price))
    return PriceBook({key: tuple(sorted(found)) for key, found in steps.items()}, source)

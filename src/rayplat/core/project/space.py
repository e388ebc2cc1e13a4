"""What may be tuned of a model, as it is declared: ranges, choices and the conditions between them.

Knows the kinds of dimensions and what makes a space whole; it does not know how values are searched.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = float | int | str | bool


@dataclass(frozen=True, slots=True)
class Float:
    """A number between `low` and `high`, both included.

    Args:
        log: as many values are tried between 0.001 and 0.01 as between 0.01 and 0.1.
        when: the values that other dimensions must have for this one to exist.
    """

    low: float
    high: float
    log: bool = False
    when: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number between `low` and `high`, both included; `log` and `when` as of `Float`."""

    low: int
    high: int
    log: bool = False
    when: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values; `when` as of `Float`."""

    options: tuple[Value, ...]
    when: Mapping[str, Value] = field(default_factory=dict)


Dimension = Float | Int | Choice


class Space:
    """The dimensions by name, in the order of declaration: `rp.Space(lr=rp.Float(1e-4, 1e-1, log=True))`.

    A dimension with `when` stands after those that it names.
    """

    def __init__(self, **dimensions: Dimension) -> None:
        self.dimensions = dimensions

    def active(self, name: str, params: Mapping[str, Any]) -> bool:
        """Whether a dimension exists beside the values chosen so far."""
        return all(params.get(other) == value for other, value in self.dimensions[name].when.items())

    def faults(self) -> list[str]:
        """What does not hold together, one text each; empty where all does."""
        found = [] if self.dimensions else ["it has no dimension"]
        before: set[str] = set()
        for name, dimension in self.dimensions.items():
            found += [f"{name}: {fault}" for fault in _faults_of(dimension, before)]
            before.add(name)
        return found


def _faults_of(dimension: Any, before: set[str]) -> list[str]:
    if not isinstance(dimension, Float | Int | Choice):
        return [f"{dimension!r} is no rp.Float, rp.Int or rp.Choice"]
    found = [
        f"`when` names {n!r}, which is not declared before it" for n in dimension.when if n not in before
    ]
    if isinstance(dimension, Choice):
        options = dimension.options
        if not isinstance(options, tuple) or not options or len(set(options)) != len(options):
            found.append("options must be a tuple of different values, at least one")
        return found
    kind = int if isinstance(dimension, Int) else (int, float)
    ends = (dimension.low, dimension.high)
    if not all(isinstance(end, kind) and not isinstance(end, bool) and math.isfinite(end) for end in ends):
        found.append(f"its ends {ends} are not finite numbers of its kind")
    elif dimension.low > dimension.high:
        found.append(f"low {dimension.low} is above high {dimension.high}")
    elif dimension.log and dimension.low <= 0:
        found.append(f"low {dimension.low} must be above 0 where log is set")
    return found

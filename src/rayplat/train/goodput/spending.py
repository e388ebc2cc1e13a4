"""What a worker's time can be spent on, and sums of it.

Knows the categories and that they add up; it does not know where times come from (`stopwatch`, `accounts`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

NS = 1_000_000_000


class Spent(StrEnum):
    """What a moment of a worker was spent on; it is of exactly one of these."""

    PRODUCTIVE = "productive"
    """Steps that count, evaluations, and what the project's function does around them."""
    RESTART = "restart"
    """Processes start, groups form, states travel: from a start or a loss to the next step."""
    CHECKPOINT = "checkpoint"
    """A step waits for a checkpoint to be taken."""
    INPUT = "input"
    """A step waits for its rows."""
    IDLE = "idle"
    """A worker is there and has no part in the group: a standby, or before the group has begun."""
    RECOMPUTE = "recompute"
    """Steps that were broken off, or that had been done before and were lost."""


@dataclass(frozen=True, slots=True)
class Spending:
    """Worker time by category.

    Attributes:
        ns: whole nanoseconds, so that sums are exact.
    """

    ns: Mapping[Spent, int] = field(default_factory=dict)

    @property
    def total_ns(self) -> int:
        """All of it."""
        return sum(self.ns.values())

    def seconds(self, spent: Spent) -> float:
        """Of one category."""
        return self.ns.get(spent, 0) / NS

    def share(self, spent: Spent) -> float:
        """Of one category in the whole, 0 to 1; 0 of nothing."""
        return self.ns.get(spent, 0) / self.total_ns if self.total_ns else 0.0

    @property
    def goodput(self) -> float:
        """The productive share."""
        return self.share(Spent.PRODUCTIVE)

    def __add__(self, other: "Spending") -> "Spending":
        both = {spent: self.ns.get(spent, 0) + other.ns.get(spent, 0) for spent in Spent}
        return Spending({spent: ns for spent, ns in both.items() if ns})

    def usd(self, total_usd: float) -> dict[str, float]:
        """What each category cost of a run that cost `total_usd`."""
        return {str(spent): self.share(spent) * total_usd for spent in Spent}

    def as_json(self) -> dict[str, int]:
        """Nanoseconds by the category's name."""
        return {str(spent): ns for spent, ns in self.ns.items()}

    @staticmethod
    def of_json(plain: Mapping[str, int]) -> "Spending":
        """What `as_json` gave."""
        return Spending({Spent(name): int(ns) for name, ns in plain.items()})

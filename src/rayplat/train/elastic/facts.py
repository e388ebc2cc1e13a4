"""What the controller knows of a group of workers, as values.

Knows the shape of members and generations; it does not know how they are told or changed.

A *generation* is a set of members that trains together: one process group, one world size. When a member
is lost or another one joins, the generation ends and the next one begins at the same step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """What a member does."""

    STARTING = "starting"
    """Its process was asked for; it has not said that it is ready."""
    READY = "ready"
    """It has project and rows, and waits for a generation; it holds no state of the run."""
    TRAINING = "training"
    """It is in the current generation."""
    WAITING = "waiting"
    """It has left a generation at a step's end, with the state of that step, and waits for the next."""
    DONE = "done"
    """It has trained to the end."""


@dataclass(frozen=True, slots=True)
class MemberFact:
    """A member as it is known.

    Attributes:
        slot: the reservation that it runs in.
        store: host:port of the store that it offers to a generation; empty before it is ready.
        step: the steps that its state has behind it; -1 where it has none.
        since: when it came into this phase, s on the controller's clock.
        leaving: its node is to go, or somebody asked it to leave.
    """

    id: str
    slot: int
    phase: Phase
    store: str = ""
    step: int = -1
    since: float = 0.0
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """A set of members that trains together; a member's rank is its place. Travels to them as a value.

    Attributes:
        furthest: the steps that the run has had, also those that it lost since.
    """

    number: int
    members: tuple[str, ...]
    store: str
    furthest: int = 0

    def as_message(self) -> dict[str, object]:
        """What a member is told."""
        return {
            "say": "generation",
            "number": self.number,
            "members": self.members,
            "store": self.store,
            "furthest": self.furthest,
        }

    @staticmethod
    def of_message(message: Mapping[str, object]) -> "Generation":
        """What a member was told."""
        members = message["members"]
        if not isinstance(members, list | tuple):
            raise TypeError(f"members is {members!r}")
        number = message["number"]
        furthest = int(str(message.get("furthest", 0)))
        return Generation(int(str(number)), tuple(map(str, members)), str(message["store"]), furthest)


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """Everything that a decision is made of.

    Attributes:
        members: all that are not gone.
        least, most: how many may train together.
        generation: the members of the current generation; empty between two.
        broken: the current generation cannot go on: a member of it is gone or has left it.
        now: s on the controller's clock.
        begun: whether the run has had a generation.
        settle_s: how long a broken generation waits for a member that neither leaves it nor is gone.
    """

    members: tuple[MemberFact, ...]
    least: int
    most: int
    generation: tuple[str, ...]
    broken: bool
    now: float
    begun: bool
    settle_s: float = 20.0

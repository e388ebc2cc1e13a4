"""What admission says of a request.

Knows the two answers; it does not know how they come about.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from rayplat.core.errors import UserError
from rayplat.serve.admission.limits import UNLIMITED, Limits


class Priority(IntEnum):
    """Who goes first when not all can be answered: under load, lower ones are refused first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request may be answered.

    Attributes:
        caller: who asks, as the prediction log names him.
        limits: what his instances are counted against.
    """

    caller: str
    priority: Priority = Priority.NORMAL
    limits: Limits = field(default=UNLIMITED, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is not answered.

    Attributes:
        status: 401 nobody known, 403 not allowed, 429 too much, 503 too much for the replica.
        problem: a sentence for the caller; it holds nothing of what he sent.
        retry_after_s: when asking again may help.
    """

    status: int
    problem: str
    retry_after_s: float | None = None


Decision = Admitted | Refused


class NotAdmittedError(UserError):
    """A request that was refused after its body was read.

    Args:
        refused: what the caller is told.
    """

    def __init__(self, refused: Refused) -> None:
        self.refused = refused
        super().__init__(refused.problem, "ask for less, or later")

    def __reduce__(self) -> tuple[type["NotAdmittedError"], tuple[Refused]]:
        return type(self), (self.refused,)

"""Whether a failed worker group is started again.

Knows causes and counts, as values; it does not know Ray, torch or a clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Cause(Enum):
    """Why a worker stopped."""

    CODE = "code"
    """The project's function, or its data, is at fault: it would fail again."""
    LOST = "lost"
    """The worker's process or node is gone."""
    PEER = "peer"
    """The worker lost its connection to another one: a consequence, not a cause."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How one worker stopped."""

    rank: int
    cause: Cause
    text: str


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the workers again from the last checkpoint."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop, and raise `failure` to the user."""

    failure: Failure
    reason: str


def decide(failures: Sequence[Failure], restarts_without_progress: int, limit: int) -> Restart | GiveUp:
    """What to do after a worker group has failed.

    Args:
        failures: of the workers, at least one.
        restarts_without_progress: how often the group was started again since a new checkpoint came.
        limit: how often that may be.
    """
    for failure in failures:
        if failure.cause is Cause.CODE:
            return GiveUp(failure, "the same code on the same data would fail again")
    lost = [f for f in failures if f.cause is Cause.LOST]
    worst = (lost or list(failures))[0]
    if restarts_without_progress >= limit:
        return GiveUp(worst, f"{restarts_without_progress} restarts brought no new checkpoint")
    ranks = ", ".join(str(f.rank) for f in lost or failures)
    return Restart(f"worker {ranks} was lost")

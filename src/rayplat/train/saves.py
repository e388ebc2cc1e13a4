"""The saves of a run that are on their way, and what is done about those that fail.

Knows how many failed in a row and the policy; it does not know how a checkpoint is written (`checkpoints`).
"""

import time
from collections.abc import Callable

from rayplat.core.errors import RayplatError
from rayplat.core.project.training import OnFailure
from rayplat.train.checkpoints.writer import SaveHandle
from rayplat.train.failures.decisions import Stop, on_failed_checkpoint


class CheckpointsFailedError(RayplatError):
    """Checkpoints could not be written again and again, and the policy is to stop."""


class Saves:
    """Follows saves; ask `look` between two steps.

    Args:
        policy: how many in a row may fail.
        note: is told of each that did.
    """

    def __init__(self, policy: OnFailure, note: Callable[[str], None]) -> None:
        self._policy, self._note = policy, note
        self._open: list[SaveHandle] = []
        self._failed = 0
        self.newest = -1
        """The step of the newest save that was begun."""

    def follow(self, handle: SaveHandle) -> SaveHandle:
        """A save has begun."""
        self._open.append(handle)
        self.newest = handle.step
        return handle

    def look(self) -> None:
        """Tell of saves that have failed since.

        Raises:
            CheckpointsFailedError: too many in a row.
        """
        while self._open and self._open[0].done():
            handle = self._open.pop(0)
            if handle.error is None:
                self._failed = 0
            elif handle.step == self.newest or not self._open:  # one that a later one replaced did not fail
                self._count(handle, handle.error)

    def ended_within(self, timeout: float) -> bool:
        """Wait until nothing is on its way; whether it took at most so many seconds."""
        end = time.monotonic() + timeout
        return all(handle.ended_within(max(0.0, end - time.monotonic())) for handle in self._open)

    def finish(self) -> None:
        """The same, once nothing is on its way any more; raises as `look` does."""
        for handle in self._open:
            handle.ended_within(None)
        self.look()

    def _count(self, handle: SaveHandle, error: RayplatError) -> None:
        self._failed += 1
        decision = on_failed_checkpoint(self._policy, self._failed)
        if isinstance(decision, Stop):
            raise CheckpointsFailedError(f"{decision.reason}: {error.what}", decision.mend) from error
        self._note(
            f"the checkpoint of step {handle.step} could not be written, training goes on: {error.what}"
        )

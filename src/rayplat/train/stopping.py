"""Whether a run was asked to stop, and what its caller is told when it has.

Knows the platform's requests to stop; it does not know who asks, nor how a group of workers stops.
"""

import time
from collections.abc import Callable

from rayplat.cluster.stop_requests import StopRequests
from rayplat.core.errors import RayplatError
from rayplat.core.settings import Settings

LOOK_EVERY_S = 1.0


class RunStoppedError(RayplatError):
    """The run was asked to stop, and has: its newest checkpoint is of the step at which it did."""


class StopWatch:
    """Looks whether one run is asked to stop, at most once a second.

    Args:
        settings: name the database that holds the requests.
        run: the run's own name, as `cluster.owners.declared` says it.
        clock: s, never going back.
    """

    def __init__(self, settings: Settings, run: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests = StopRequests(settings)
        self._run = run
        self._clock = clock
        self._looked = clock() - LOOK_EVERY_S
        self._reason = ""

    def __call__(self) -> bool:
        """Whether the run is asked to stop; it stays so once it was."""
        now = self._clock()
        if not self._reason and now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            request = self._requests.asked("run", self._run)
            self._reason = "" if request is None else request.reason or "no reason was given"
        return bool(self._reason)

    def honour(self) -> RunStoppedError:
        """Note that the run has stopped, and say so to whoever called it."""
        self._requests.honour("run", self._run)
        return RunStoppedError(
            f"the run {self._run} was asked to stop, and did at the end of a step: {self._reason}",
            "run it again when it may: it goes on at that step",
        )

    def close(self) -> None:
        """Give the connections back."""
        self._requests.close()

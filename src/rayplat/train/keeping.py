"""How the state of a run is kept and taken up again: whole by one worker, or in parts by all of them.

Knows who writes what and what is waited for; it does not know when a checkpoint is due (`run`, `elastic`), or
how one is written and found again (`checkpoints`). A sharded network is never put together for it: every
worker writes its parts, and takes up its own, however many workers wrote them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rayplat.core.project.training import OnFailure
from rayplat.train import layout
from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.checkpoints.writer import SaveHandle
from rayplat.train.live_state import LiveState
from rayplat.train.saves import Saves


class Keeping:
    """The checkpoints of one run, as one worker of a group sees them.

    Args:
        folder: where whole states go.
        rank, world: of this worker in its group.
        policy: how many saves in a row may fail.
        note: is told of each that did.
    """

    def __init__(  # who, where, and who hears of it
        self,
        folder: CheckpointFolder,
        rank: int,
        world: int,
        policy: OnFailure,
        note: Callable[[str], None],
    ) -> None:
        self._folder, self._rank, self._world = folder, rank, world
        self._parts: CheckpointFolder | None = None
        self._saves = Saves(policy, note)

    @property
    def newest(self) -> int:
        """The step of the newest save that was begun; -1 before the first."""
        return self._saves.newest

    def begin_parts(self, live: LiveState, optimizer: Any) -> None:
        """The network was sharded just now: take up this worker's parts of the newest checkpoint, where the
        run has no state in memory. Every worker calls it."""
        self._parts = self._folder.in_parts(self._rank, self._world)
        if live.step or live.epochs_done:
            return  # a member of the group had it whole
        inner = getattr(optimizer, "optimizer", optimizer)
        layout.fill_optimizer(inner)
        found = self._parts.latest(into=(live.network.state_dict(), inner.state_dict()))
        inner.state.clear()
        if found is not None:
            live.take(found)

    def save(
        self,
        live: LiveState,
        of: int = 0,
        *,
        just_in_time: bool = False,
        metrics: Mapping[str, float] | None = None,
    ) -> SaveHandle | None:
        """Copy the state as it is between two steps; it is written in the background.

        Returns:
            The save on its way; None on a worker that has nothing to write.
        """
        self._saves.newest = live.step  # on every rank: sharded, all of them save the same steps
        if layout.is_sharded(live.network):
            layout.fold(live.network)
        elif self._rank != 0:
            return None
        folder = self._folder if self._parts is None else self._parts
        handle = folder.save(live.as_checkpoint(of), just_in_time=just_in_time, metrics=metrics)
        return self._saves.follow(handle)

    def look(self) -> None:
        """Between two steps: do what the policy says where saves have failed.

        Raises:
            CheckpointsFailedError: too many in a row.
        """
        self._saves.look()

    def finish(self) -> None:
        """Wait for saves on their way; raises as `look` does."""
        self._saves.finish()

    def ended_within(self, timeout: float) -> bool:
        """Wait for saves on their way, well or not; whether they ended within so many seconds."""
        return self._saves.ended_within(timeout)

    def leave(self) -> None:
        """The group is left: parts that wait for those of others are given up."""
        if self._parts is not None:
            self._parts.give_up()

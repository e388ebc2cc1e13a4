"""The checkpoints of one run: saved in the background, kept by policy, found again.

Knows one rank's side of saving and loading; it does not know what the state means or when a save is due. A
save holds the caller up for one copy in memory; a thread makes it durable. What is damaged or half written is
passed over for the one before it.
"""

import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from rayplat.core.errors import IntegrityError, NotFoundError, RayplatError, UnavailableError
from rayplat.core.telemetry import get_logger
from rayplat.train.checkpoints.agreeing import agreed_names, all_agree
from rayplat.train.checkpoints.index import Index
from rayplat.train.checkpoints.layout import Layout, lay_out, signature
from rayplat.train.checkpoints.places import open_place
from rayplat.train.checkpoints.reading import read_index, read_whole
from rayplat.train.checkpoints.resharding import Resharded
from rayplat.train.checkpoints.retention import Kept, Retention, superseded
from rayplat.train.checkpoints.snapshot import HostBuffer, HostBuffers
from rayplat.train.checkpoints.tree import join, part
from rayplat.train.checkpoints.writer import Draft, SaveHandle, write

_PREFIX = "step-"
_PEERS_S = 120.0
"""How long a rank's save waits for those of the others."""


class StepCheckpoints:
    """The checkpoints under one URI, as one rank sees them.

    Args:
        uri: file://, s3:// or gs://; with more than one rank, storage that all of them share.
        rank, world: of this process among those that save together; every one of them saves the same steps.
        token: the same on all ranks, and new for each group of processes; see `agreeing`.
        keep: which checkpoints stay.
        buffers: how many saves may be on their way; each costs the memory of this rank's state.
    """

    def __init__(
        self,
        uri: str,
        *,
        rank: int = 0,
        world: int = 1,
        token: str = "",
        keep: Retention | None = None,
        buffers: int = 2,
    ) -> None:
        self.uri = uri.rstrip("/")
        self._place = open_place(self.uri)
        self._rank, self._world = rank, world
        self._token = token or secrets.token_hex(4)
        self._keep = keep or Retention()
        self._buffers = HostBuffers(buffers)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-writer")
        self._saves = 0
        self.peers_s = _PEERS_S
        self._given_up = threading.Event()
        self._waiting: list[tuple[SaveHandle, Future[None], HostBuffer]] = []
        self._layout: tuple[Any, Layout] | None = None
        self._kept: dict[str, Kept] = {}

    def save_async(
        self,
        step: int,
        state: Mapping[str, Any],
        just_in_time: bool = False,
        *,
        mark: int = 0,
        about: Mapping[str, Any] | None = None,
    ) -> SaveHandle:
        """Copy the state and return; it is written in the background.

        Args:
            step: how many steps are done.
            state: nested dicts, lists and tuples of tensors and of what JSON can hold.
            just_in_time: nothing that waits for the disk is to come before it.
            mark: orders saves of the same step.
            about: what is told of it beside the state; its "metrics" serve retention.

        Raises:
            UserError: the state holds something else.
        """
        handle = SaveHandle(step)
        if just_in_time and self._world == 1:
            self._drop_waiting()
        skeleton, tensors = part(state)
        text = json.dumps(skeleton)  # now: what the caller changes later is not of this step
        layout, pinned = self._layout_of(tensors), any(t.is_cuda for t in tensors.values())
        buffer = self._buffers.take(layout.length, pinned=pinned)
        try:
            self._buffers.copy(layout, tensors, buffer)
            self._saves += 1
            told = {"just_in_time": just_in_time, **(about or {})}
            name = f"{_PREFIX}{step:010d}-{mark:05d}"
            token = f"{self._token}-{self._saves}"
            draft = Draft(
                place=self._place,
                uri=self.uri.partition("?")[0],
                name=name,
                token=token,
                step=step,
                skeleton=text,
                rank=self._rank,
                world=self._world,
                about=told,
                peers_s=self.peers_s,
                given_up=self._given_up,
            )
            written = self._thread.submit(self._write, handle, draft, layout, buffer, pinned)
        except BaseException:
            self._buffers.give_back(buffer)
            raise
        self._waiting = [one for one in self._waiting if not one[0].done()]
        self._waiting.append((handle, written, buffer))
        handle.copied()
        return handle

    def latest(self, into: Mapping[str, Any] | None = None) -> tuple[int, Any] | None:
        """The newest checkpoint whose every byte is what was written: its step and its state.

        Args:
            into: a state like the one that was saved, whose tensors take what was saved, each rank its own
                parts of them, however many ranks wrote them. Every rank of the process group calls it then.
                Without it all tensors come whole, on the CPU.

        Returns:
            None where there is none. Tensors of `into` are changed only by what is returned.
        """
        names = self.names() if into is None else agreed_names(self.names())
        for name in reversed(names):
            try:
                return self._read_whole(name) if into is None else self._read_into(name, into)
            except (IntegrityError, NotFoundError, OSError) as error:
                _passed_over(name, error)
        return None

    def indexes(self) -> Iterator[tuple[str, Index]]:
        """Name and verified index of each checkpoint, the newest first; their tensors are not read."""
        for name in reversed(self.names()):
            try:
                yield name, read_index(self._place, name)
            except NotFoundError:
                continue
            except (IntegrityError, OSError) as error:
                _passed_over(name, error)

    def names(self) -> list[str]:
        """The names of what is there, the oldest first; on an object store also of what is not whole."""
        return [name for name in self._place.names() if name.startswith(_PREFIX)]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until nothing is on its way; what failed is told by its own handle."""
        for handle, _, _ in self._waiting:
            if not handle.ended_within(timeout):
                raise UnavailableError(f"the checkpoint of step {handle.step} is on its way", "wait longer")

    def give_up(self) -> None:
        """Wait no longer for other ranks: a save that lacks one of their parts fails."""
        self._given_up.set()

    def close(self) -> None:
        """Wait for what is on its way, and let the thread and the buffers go."""
        self._thread.shutdown(wait=True)
        self._waiting.clear()
        self._buffers = HostBuffers(1)

    def _layout_of(self, tensors: Mapping[str, torch.Tensor]) -> Layout:
        now = signature(tensors)
        if self._layout is None or self._layout[0] != now:
            self._layout = now, lay_out(tensors, self._rank, self._world)
        return self._layout[1]

    def _drop_waiting(self) -> None:
        """Saves that the thread has not begun are superseded: their step is older than what is wanted now."""
        for handle, written, buffer in self._waiting:
            if written.cancel():
                self._buffers.give_back(buffer)
                handle.end(
                    UnavailableError(f"the checkpoint of step {handle.step} gave way to a later one", "")
                )

    def _write(
        self, handle: SaveHandle, draft: Draft, layout: Layout, buffer: HostBuffer, pinned: bool
    ) -> None:
        error: RayplatError | None = None
        try:
            write(draft, layout, buffer.bytes(layout.length))
            if self._rank == 0:
                self._tidy(draft)
        except RayplatError as failed:
            error = failed
            get_logger("train.checkpoints").warning("checkpoint_not_written", reason=failed.what)
        # Whatever it is, it is the handle's to tell: nobody reads this thread's future.
        except Exception as failed:
            error = UnavailableError(f"the checkpoint of step {draft.step} failed: {failed!r}", "")
        finally:
            self._buffers.give_back(buffer)
            handle.end(error)
        self._buffers.prepare(layout.length, pinned=pinned)

    def _tidy(self, draft: Draft) -> None:
        """Remove what retention lets go, and what killed processes or damage have left behind."""
        try:
            there = [one for name in self.names() if (one := self._as_kept(name, draft)) is not None]
            for name in superseded(there, self._keep):
                self._place.remove(name)
                self._kept.pop(name, None)
            for name, token in self._place.asides():
                if name <= draft.name and not token.startswith(self._token):
                    self._place.remove_aside(name, token)
        except OSError as error:  # the checkpoint itself is durable; the next one tidies again
            get_logger("train.checkpoints").warning("checkpoints_not_tidied", reason=str(error))

    def _as_kept(self, name: str, draft: Draft) -> Kept | None:
        """A checkpoint for the rules; one that is older than what was just written, and not whole, goes."""
        if name not in self._kept:
            try:
                index = read_index(self._place, name)
            except (IntegrityError, NotFoundError):
                if name < draft.name:
                    self._place.remove(name)
                return None
            self._kept[name] = Kept(name, index.step, index.about.get("metrics", {}))
        return self._kept[name]

    def _read_into(self, name: str, into: Mapping[str, Any]) -> tuple[int, Any]:
        _, tensors = part(into)
        read: tuple[Index, Resharded] | None = None
        failed: Exception | None = None
        try:
            index = read_index(self._place, name)
            read = index, Resharded(self._place, name, index, tensors)
        except (IntegrityError, NotFoundError, OSError) as error:
            failed = error
        if not all_agree(read is not None) or read is None:
            raise failed or IntegrityError(f"another rank cannot read {name}", "see the log of its worker")
        index, resharded = read
        resharded.copy()
        return index.step, join(index.skeleton, tensors.__getitem__)

    def _read_whole(self, name: str) -> tuple[int, Any]:
        index = read_index(self._place, name)
        return index.step, join(index.skeleton, read_whole(self._place, name, index).__getitem__)


def _passed_over(name: str, error: Exception) -> None:
    reason = error.what if isinstance(error, RayplatError) else str(error)
    get_logger("train.checkpoints").warning("checkpoint_passed_over", checkpoint=name, reason=reason)

"""One save on its way to be durable: what the background thread does with a snapshot.

Knows the order of a save (shard, part, index, publish, retention) and what a failure leaves behind; it does
not know where the bytes came from (`snapshot`) or when a save is due.

The ranks meet in the folder itself: each writes its shard and tells its part beside it, rank 0 waits for all
parts and seals. No collective runs in the background, where it would meet those of training.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rayplat.core.errors import BugError, RayplatError, UnavailableError
from rayplat.core.telemetry import get_logger
from rayplat.train.checkpoints.index import BLOCK, Index, Part, Shard
from rayplat.train.checkpoints.layout import Layout
from rayplat.train.checkpoints.places import INDEX, Attempt, Place
from rayplat.train.checkpoints.reading import intact

_POLL_S = (0.002, 0.1)
_FAILED = b"failed"


class SaveHandle:
    """A save on its way.

    Attributes:
        step: the step that is saved.
        stall_s: how long the caller was held up.
        durable_s: from the call until the checkpoint was durable; None until then.
        error: why it was not written; None where it was, or is on the way.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self.stall_s = 0.0
        self.durable_s: float | None = None
        self.error: RayplatError | None = None
        self._begun = time.perf_counter()
        self._ended = threading.Event()

    def done(self) -> bool:
        """Whether it is durable, or has failed."""
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is durable.

        Raises:
            RayplatError: it was not written; older checkpoints stand.
            UnavailableError: `timeout` seconds were not enough; it is on the way still.
        """
        if not self.ended_within(timeout):
            raise UnavailableError(
                f"the checkpoint of step {self.step} is not durable within {timeout} s", "wait longer"
            )
        if self.error is not None:
            raise self.error

    def ended_within(self, timeout: float | None) -> bool:
        """Wait until it is durable or has failed; whether it did within `timeout` s."""
        return self._ended.wait(timeout)

    def copied(self) -> None:
        """The caller may go on."""
        self.stall_s = time.perf_counter() - self._begun

    def end(self, error: RayplatError | None = None) -> None:
        """It is durable, or has failed."""
        self.error = error
        self.durable_s = None if error else time.perf_counter() - self._begun
        self._ended.set()


@dataclass(frozen=True, slots=True)
class Draft:
    """What a save is about.

    Attributes:
        name: of the folder.
        skeleton: of the state, as JSON.
        token: the same on all ranks, and on no other attempt.
        peers_s: how long a rank waits for the others.
        given_up: set when it is to wait no longer.
    """

    place: Place
    uri: str
    name: str
    token: str
    step: int
    skeleton: str
    rank: int
    world: int
    about: Mapping[str, Any] = field(default_factory=dict)
    peers_s: float = 120.0
    given_up: threading.Event = field(default_factory=threading.Event)


def write(draft: Draft, layout: Layout, data: memoryview) -> None:
    """Write this rank's shard, and have the checkpoint published; on every rank it is when this returns.

    Raises:
        RayplatError: it was not; what was written of it is removed again.
    """
    attempt: Attempt | None = None
    try:
        attempt = draft.place.begin(draft.name, draft.token)
        part = _write_shard(attempt, draft, layout, data)
        if draft.rank == 0:
            index = Index(
                draft.step, json.loads(draft.skeleton), draft.about, _all_parts(attempt, draft, part)
            )
            _publish(attempt, draft, index)
        else:
            attempt.write(_part_file(draft, draft.rank), [part.as_json()])
            _await_published(attempt, draft)
    except BaseException as error:
        if attempt is not None:
            _give_up(attempt, draft)
        if isinstance(error, OSError):
            raise _told(error, draft) from error
        raise


def _write_shard(attempt: Attempt, draft: Draft, layout: Layout, data: memoryview) -> Part:
    file = f"shard-{draft.rank:05d}-of-{draft.world:05d}.{draft.token}.safetensors"
    blocks: list[str] = []

    def parts() -> Iterator[bytes | memoryview]:
        yield layout.header
        for at in range(0, layout.length, BLOCK):
            block = data[at : min(at + BLOCK, layout.length)]
            blocks.append(hashlib.sha256(block).hexdigest())
            yield block

    attempt.write(file, parts())
    header = hashlib.sha256(layout.header).hexdigest()
    return Part(Shard(file, len(layout.header), layout.length, header, tuple(blocks)), layout.slices)


def _all_parts(attempt: Attempt, draft: Draft, own: Part) -> tuple[Part, ...]:
    parts = {0: own}
    for pause in _pauses(draft.peers_s, draft.given_up):
        for rank in set(range(draft.world)) - set(parts):
            told = attempt.read(_part_file(draft, rank))
            if told == _FAILED:
                raise UnavailableError(
                    f"rank {rank} could not write its part of the checkpoint of step {draft.step}",
                    "see the log of that worker",
                )
            if told is not None:
                parts[rank] = Part.of_json(told)
        if len(parts) == draft.world:
            return tuple(parts[rank] for rank in range(draft.world))
        time.sleep(pause)
    missing = sorted(set(range(draft.world)) - set(parts))
    raise UnavailableError(
        f"ranks {missing} did not write their part of the checkpoint of step {draft.step} within "
        f"{draft.peers_s:.0f} s",
        f"look whether those workers live, and whether {draft.uri} is the same storage on all nodes",
    )


def _publish(attempt: Attempt, draft: Draft, index: Index) -> None:
    """Publish; a readable checkpoint that is there stays, a damaged one is replaced."""
    sealed = index.seal()
    if attempt.publish(sealed):
        return
    if intact(draft.place, draft.name):
        attempt.discard()
        return
    draft.place.remove(draft.name)
    if not attempt.publish(sealed):
        raise BugError(f"{draft.uri}/{draft.name} came back while it was replaced")


def _await_published(attempt: Attempt, draft: Draft) -> None:
    """Wait until rank 0 has published: nothing is aside then, and the index is there."""
    for pause in _pauses(draft.peers_s, draft.given_up):
        ours = attempt.there()
        index = _index_of(draft)
        # The index of an earlier attempt at the same step may stand there still while ours is sealed.
        if index and (not ours or draft.token.encode() in index):
            return
        if not ours and not index:
            break
        time.sleep(pause)
    raise UnavailableError(
        f"rank 0 did not publish the checkpoint of step {draft.step}", "see the log of that worker"
    )


def _index_of(draft: Draft) -> bytes:
    try:
        return draft.place.read(draft.name, INDEX)
    except FileNotFoundError:
        return b""


def _give_up(attempt: Attempt, draft: Draft) -> None:
    """Leave nothing half written; rank 0 removes all, another rank tells it so."""
    try:
        if draft.rank == 0:
            attempt.discard()
        elif attempt.there():
            attempt.write(_part_file(draft, draft.rank), [_FAILED])
    except OSError as error:
        get_logger("train.checkpoints").warning("checkpoint_not_cleaned_up", reason=str(error))


def _told(error: OSError, draft: Draft) -> RayplatError:
    return UnavailableError(
        f"the checkpoint of step {draft.step} could not be written to {draft.uri}: {error}",
        "make room or mend the storage; the checkpoints before it stand, and the next one is tried again",
    )


def _part_file(draft: Draft, rank: int) -> str:
    return f"part-{rank:05d}.{draft.token}.json"


def _pauses(seconds: float, given_up: threading.Event | None = None) -> Iterator[float]:
    """Growing pauses, for as long as `seconds`, or until it is given up."""
    end, pause = time.monotonic() + seconds, _POLL_S[0]
    while time.monotonic() < end and not (given_up is not None and given_up.is_set()):
        yield pause
        pause = min(pause * 1.5, _POLL_S[1])

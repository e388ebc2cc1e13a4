"""The outbox: answers of one turn of the event loop, sent together when the log has them.

Knows the order of logging and sending; it does not know connections' buffers, nor the log's bytes.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from rayplat.core.errors import UnavailableError
from rayplat.core.telemetry import get_logger
from rayplat.features.server.faults import PROBLEM, answer_to, headers_of

if TYPE_CHECKING:
    from rayplat.features.parity.journal import Entry, Journal


@dataclass(slots=True)
class Outgoing:
    """An answer on its way out.

    Attributes:
        route: of the request, for metrics.
        begun: when the request was whole, in nanoseconds of `time.perf_counter_ns`.
        close: whether the connection is closed after it.
        entities: how many were asked for.
        entries: what the log must have before the answer is sent.
        rest: follows the body.
        headers: more of them, by name and value.
    """

    route: str
    status: int
    kind: bytes
    body: bytes
    begun: int
    close: bool
    entities: int = 0
    entries: "Sequence[Entry]" = ()
    rest: Sequence[bytes] = ()
    headers: Sequence[tuple[bytes, bytes]] = ()


class Sender(Protocol):
    """A connection."""

    def send(self, out: Outgoing) -> None:
        """Send an answer that was logged."""

    def sent(self) -> None:
        """All its answers of the turn were sent."""


@dataclass(slots=True)
class Outbox:
    """The outbox of one event loop.

    Args:
        journal: the log.
    """

    journal: "Journal"
    _waiting: list[tuple[Sender, Outgoing]] = field(default_factory=list)

    def add(self, sender: Sender, out: Outgoing, *, alone: bool = False) -> None:
        """Send an answer at the end of this turn, after those that were added before.

        Args:
            alone: no other answer can be added in this turn: it is logged and sent at once.
        """
        try:
            self.journal.admit(out.entries)
        except UnavailableError as error:  # the log has told once that it refuses
            out = _refused(out, error)
        if alone and not self._waiting:
            self._waiting.append((sender, out))
            self.flush()
            return
        if not self._waiting:
            # What was received in this turn is answered before what was called soon.
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((sender, out))

    def flush(self) -> None:
        """Log what waits by one write, then send it; what cannot be logged is refused."""
        waiting, self._waiting = self._waiting, []
        entries = [entry for _, out in waiting for entry in out.entries]
        if entries:
            try:
                self.journal.write(entries)
            except UnavailableError as error:
                get_logger("features.server").error("answers were not logged", exc_info=error)
                waiting = [(sender, _refused(out, error)) for sender, out in waiting]
        for sender, out in waiting:
            sender.send(out)
        for sender in {id(sender): sender for sender, _ in waiting}.values():
            sender.sent()


def _refused(out: Outgoing, error: UnavailableError) -> Outgoing:
    if not out.entries:
        return out
    status, body = answer_to(error)
    return replace(
        out,
        status=status,
        kind=PROBLEM,
        body=body,
        entities=0,
        entries=(),
        rest=(),
        headers=headers_of(error),
    )

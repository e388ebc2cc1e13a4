"""Requests with an Idempotency-Key at the doors of a replica: claimed before the work, settled after it.

Knows how the transactions of keys are kept off an event loop, and what is told to who cannot be answered; it
does not know how an answer is made. The doors of all replicas share the keys of the platform.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import time
from typing import TypeVar

from rayplat.core.errors import UnavailableError
from rayplat.serve.log.idempotency import Busy, Claimed, IdempotencyKeys, Kept, Mismatch

T = TypeVar("T")
Found = Claimed | Kept | Busy | Mismatch
BUSY = "a request with this Idempotency-Key is being answered: ask again in a moment"
MISMATCH = "this Idempotency-Key was used for another request"
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Keyed:
    """A request under a key.

    Attributes:
        asked: what was asked, with the form of its answer: the same under the key is the same request.
    """

    caller: str
    endpoint: str
    key: str
    asked: bytes


class KeyedRequests:
    """The keys of a platform, for the event loops of one replica. Nothing is opened before the first use.

    One thread is enough: the database has one writer of keys at a time.

    Args:
        keys: closed with this.
        clock: s since 1970.
    """

    def __init__(self, keys: IdempotencyKeys, clock: Callable[[], float] = time) -> None:
        self._keys = keys
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, "idempotency")

    def claim(self, one: Keyed) -> "Future[Found]":
        """Begin a request; see `IdempotencyKeys.claim`.

        Raises:
            UnavailableError: the replica is stopping.
        """
        return self._put(
            lambda: self._keys.claim(one.caller, one.endpoint, one.key, one.asked, self._clock())
        )

    def settle(self, claimed: Claimed, answer: bytes) -> "Future[bytes]":
        """Keep an answer; the future has what is to be sent.

        Where it cannot be kept, the claim is given up: nobody was told of the answer, so the request is to be
        asked again.

        Raises:
            UnavailableError: the replica is stopping.
        """

        def settled() -> bytes:
            try:
                return self._keys.settle(claimed, answer, self._clock())
            except Exception:
                self._keys.give_up(claimed)
                raise

        return self._put(settled)

    def give_up(self, claimed: Claimed) -> "Future[None]":
        """Let a request be tried again: it was not answered.

        Raises:
            UnavailableError: the replica is stopping.
        """
        return self._put(lambda: self._keys.give_up(claimed))

    def close(self) -> None:
        """Finish what was begun, and close the connections."""
        self._pool.shutdown()
        self._keys.close()

    def _put(self, work: Callable[[], T]) -> "Future[T]":
        try:
            return self._pool.submit(work)
        except RuntimeError as error:
            raise UnavailableError("the replica is stopping", "ask again") from error

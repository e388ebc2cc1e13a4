"""Leases: a replica takes a little out of a shared bucket ahead, so that most requests ask nobody.

Knows how much is taken ahead, and how much is let through while the answer is awaited; it does not know who
asks for what.

One lease is a twentieth of what the bucket holds, at least 1; and at most 1,000, or what flows in a quarter
of a second where that is more, so that a caller with a high rate costs few transactions. While a lease is on
its way, as much is let through on credit, and the next lease pays for it. So in any time, n replicas let
through at most what the bucket allows and 2 n leases more (one held from before and one on credit), and they
refuse at most n leases too many. What counts for more than a lease passes on credit one at a time.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from rayplat.core.errors import RayplatError
from rayplat.core.telemetry import get_logger
from rayplat.serve.admission.bucket import Bucket, Taken

_MOST_HELD = 10_000
_AWAY_S = 1.0


class Levels(Protocol):
    """Where the levels of buckets are."""

    def take(self, name: str, bucket: Bucket, asked: int, now: float) -> Taken:
        """Take up to `asked`; see `bucket.take`. Raises UnavailableError."""

    def close(self) -> None:
        """Let go of it."""


def lease_of(bucket: Bucket) -> int:
    """How much is taken ahead."""
    return max(1, min(max(1000, math.ceil(bucket.rate / 4)), math.ceil(bucket.burst / 20)))


@dataclass(slots=True)
class _Held:
    bucket: Bucket
    lease: int
    left: int = 0
    owed: int = 0
    asking: bool = False
    empty_until: float = 0.0
    used_at: float = field(default=0.0)


class Leases:
    """The leases of one replica. `take` is for one thread; it never waits.

    Args:
        levels: the shared levels.
        clock: s since 1970.
    """

    def __init__(self, levels: Levels, clock: Callable[[], float] = time.time) -> None:
        self._levels = levels
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._wanted: SimpleQueue[str | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="leases", daemon=True)
        self._thread.start()

    def take(self, name: str, bucket: Bucket, amount: int = 1) -> float:
        """Take `amount` out of a bucket: 0.0 where it may pass, else seconds until asking again may help.

        An amount of 0 takes nothing, and passes unless the bucket is known to be empty.
        """
        if amount == 0 and (known := self._held.get(name)) is not None and known.left > 0:
            return 0.0
        now = self._clock()
        with self._lock:
            held = self._held.get(name)
            if held is None or (held.bucket is not bucket and held.bucket != bucket):
                held = self._hold(name, bucket, now)
            held.used_at = now
            if amount > max(bucket.burst, 1):
                return math.inf  # it never fits
            if held.left >= max(1, amount):
                held.left -= amount
                passes = 0.0
            elif now < held.empty_until:
                return held.empty_until - now
            elif amount == 0:
                passes = 0.0
            elif held.owed + amount - held.left <= max(held.lease, amount - held.left):
                held.owed += amount - held.left
                held.left = 0
                passes = 0.0
            else:
                passes = 0.05  # the lease is on its way
            if not held.asking and held.left < max(1, held.lease // 2):
                held.asking = True
                self._wanted.put(name)
            return passes

    def close(self) -> None:
        """Pay for what was let through on credit, and stop."""
        self._wanted.put(None)
        self._thread.join()
        self._levels.close()

    def _hold(self, name: str, bucket: Bucket, now: float) -> _Held:
        if len(self._held) >= _MOST_HELD:  # callers that were not seen for long make room
            for old in sorted(self._held, key=lambda n: self._held[n].used_at)[: _MOST_HELD // 10]:
                del self._held[old]
        held = self._held[name] = _Held(bucket, lease_of(bucket), used_at=now)
        return held

    def _work(self) -> None:
        while (name := self._wanted.get()) is not None:
            with self._lock:
                held = self._held.get(name)
            if held is None:
                continue
            with self._lock:
                asked = held.lease + held.owed
            try:
                taken = self._levels.take(name, held.bucket, asked, self._clock())
            except RayplatError as error:
                get_logger("serve.admission").warning("limits are not shared now", error=str(error))
                taken = None
            with self._lock:
                held.asking = False
                if taken is None:
                    held.empty_until = self._clock() + _AWAY_S
                    continue
                paid = min(taken.granted, held.owed)
                held.owed -= paid
                held.left += taken.granted - paid
                if taken.granted < asked:
                    held.empty_until = self._clock() + min(max(taken.wait_s, 0.02), 3600.0)

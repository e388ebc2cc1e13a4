"""A token bucket: how much may pass in the long run, and how much at once.

Knows the arithmetic; it does not know who asks, nor where the level is kept. Pure: the clock is an argument.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a bucket may hold.

    Attributes:
        rate: how much flows in a second; 0: what it begins with is all there is.
        burst: how much it holds at most; it begins full.
    """

    rate: float
    burst: float


@dataclass(frozen=True, slots=True)
class Level:
    """How much a bucket holds at a time (s)."""

    amount: float
    at: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken: a whole number, the level afterwards, and seconds until there is one more."""

    granted: int
    level: Level
    wait_s: float


def take(bucket: Bucket, level: Level | None, asked: int, now: float) -> Taken:
    """Take up to `asked` out of a bucket.

    Args:
        level: None: it was never taken from.
        now: s; a clock that goes back adds nothing.
    """
    before = level or Level(bucket.burst, now)
    at = max(before.at, now)
    amount = min(bucket.burst, before.amount + bucket.rate * (at - before.at))
    granted = min(asked, int(amount + 1e-9))
    left = max(0.0, amount - granted)
    missing = max(0.0, 1.0 - left)
    wait = missing / bucket.rate if bucket.rate > 0 else float("inf")
    return Taken(granted, Level(left, at), wait if missing else 0.0)

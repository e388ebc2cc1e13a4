"""Which questions are within a share: of the canary, of the shadow, of the log.

Knows how a key is assigned, and how what has no key is dealt; it does not know what is shared. Pure: the same
key is always assigned the same way, on every replica, and keys that a small share has stay with it when the
share grows.
"""

import itertools
import zlib
from collections.abc import Sequence

RUN = 16
"""So many questions without a key, which came together, are dealt together."""

GOLDEN = 0.618_033_988_749_894_9
SILVER = 0.414_213_562_373_095_1
"""Steps between draws: dealers that take different ones deal without regard to each other."""

_STEPS = 1 << 32


def assigned(share: float, key: bytes, salt: bytes) -> bool:
    """Whether what has this key is within a share (0 to 1).

    Args:
        salt: keeps the shares of different purposes apart.
    """
    if share <= 0:
        return False
    # The multiplication spreads checksums of keys that differ in a digit (Knuth, TAOCP 3, 6.4).
    return (zlib.crc32(key, zlib.crc32(salt)) * 2_654_435_769 % _STEPS) < share * _STEPS


class Dealer:
    """Deals questions: by their keys, and those without one in runs, so that a batch is seldom cut in two.

    Each question has the same chance, whatever came with it. Multiples of an irrational number are spread
    more evenly than draws (Weyl): after n runs the share is right to about 1/n.

    Args:
        share: 0 to 1.
        salt: see `assigned`.
        step: between draws.
        begin: of the draws, 0 to 1.
    """

    def __init__(self, share: float, salt: bytes, *, step: float = GOLDEN, begin: float = 0.0) -> None:
        self._share = share
        self._salt = salt
        self._step = step
        self._begin = begin
        self._turns = itertools.count()

    def places(self, keys: Sequence[bytes | None]) -> Sequence[int]:
        """The places of those within the share, in order."""
        share, count = self._share, len(keys)
        if share <= 0:
            return ()
        if share >= 1:
            return range(count)
        if count <= RUN and not any(keys) and keys.count(None) == count:
            return range(count) if self._drawn() else ()
        found: list[int] = []
        run, drawn = 0, False
        for place, key in enumerate(keys):
            if key is None:
                if run % RUN == 0:
                    drawn = self._drawn()
                run += 1
                within = drawn
            else:
                within = assigned(share, key, self._salt)
            if within:
                found.append(place)
        return found

    def _drawn(self) -> bool:
        return (self._begin + next(self._turns) * self._step) % 1.0 < self._share

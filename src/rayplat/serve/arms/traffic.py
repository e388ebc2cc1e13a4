"""Which questions are within a share: of the canary, of the shadow, of the log.

Knows how a key is assigned; it does not know what is shared. Pure: the same key is always assigned the same
way, on every replica, and keys that a small share has stay with it when the share grows.
"""

import zlib

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

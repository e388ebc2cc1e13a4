"""A process whose turns take the same time: its memory stays with it, and its collector rests.

Knows the allocator and the collector of cycles; it does not know what is answered.
"""

import ctypes
import gc
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""

_KEPT_BYTES = 64 << 20
_MAPPED_BYTES = 32 << 20
_COLLECT_AFTER = 50_000


def settle() -> None:
    """Make this process ready for turns of microseconds; call it when all is loaded.

    An answer of 100 entities is 100 KB. By its defaults glibc gives such memory back to the system after each
    of them, and takes it again page by page. What lives now is not looked at by the collector again.
    """
    with suppress(OSError, AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)

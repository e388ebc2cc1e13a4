"""Memory of a task's process: what is freed goes back to the system at once.

Knows one switch of the C library's allocator (mallopt(3) of glibc); it does not know what a task holds. Left
alone, glibc raises the size from which memory is mapped by itself to that of what was freed last, up to
32 MiB; smaller arrays then come from arenas, one a thread, which keep what is freed. A worker that has
streamed many events so holds several times what it needs, and more the more events there were.
"""

import ctypes

_MMAP_THRESHOLD = -3
_BYTES = 1 << 20


def give_back() -> bool:
    """Map arrays of a mebibyte and more by themselves from now on; says whether the C library can do that."""
    try:
        switch = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False  # another C library than glibc: its allocator is left alone
    return bool(switch(_MMAP_THRESHOLD, _BYTES))

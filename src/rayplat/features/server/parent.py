"""A process of `multiprocessing` that ends when its parent does, however that ends.

Knows how Linux tells it; elsewhere it knows nothing.
"""

import ctypes
import multiprocessing
import os
import signal
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Get SIGTERM when the parent is gone. A worker of a parent that was killed would answer for ever."""
    parent = multiprocessing.parent_process()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have gone while this process was starting.
    if parent is not None and os.getppid() != parent.pid:
        os.kill(os.getpid(), signal.SIGTERM)

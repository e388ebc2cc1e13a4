"""Python's collector of cycles, kept from stopping a turn of work in its middle.

Knows when it runs; it does not know what the work is.

Bringing rows into online values makes hundreds of thousands of small objects that live for a moment, and no
cycles. The collector is called by their number, and looks at all that lives in the process: a third of the
turn, and most of its tail.
"""

import gc
import threading
from types import TracebackType


class Uncollected:
    """Inside of it nothing is collected. Several threads may be; the last one lets the collector run again.

    The first time that nobody is inside any more, what lives then (modules, types, caches) is taken as
    lasting and not looked at again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._ours = False
        self._settled = False

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._ours = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside:
                return
            if not self._settled:
                gc.collect()
                gc.freeze()
                self._settled = True
            if self._ours:
                gc.enable()


UNCOLLECTED = Uncollected()
"""The one of this process."""

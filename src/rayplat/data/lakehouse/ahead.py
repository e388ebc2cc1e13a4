"""Reading ahead: the next item is made while the last one is used.

Knows one thread and a bound on what waits; it does not know what the items are.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_LOOK_EVERY_S = 0.1


class _End:
    """What the thread says last: nothing more comes, or why not."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(make: Callable[[], Iterator[T]], waiting: int = 1) -> Iterator[T]:
    """The items of an iterator that runs in a thread of its own, in their order.

    Args:
        make: makes the iterator, in that thread.
        waiting: how many items may wait; so at most `waiting` + 2 are in memory.

    Raises:
        Exception: whatever the iterator raised, after the items before it.
    """
    items: queue.Queue[T | _End] = queue.Queue(waiting)
    stop = threading.Event()
    thread = threading.Thread(target=_run, args=(make, items, stop), name="lake-read-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := items.get(), _End):
            yield item
            del item  # else it would live until the next one is there
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()


def _run(make: Callable[[], Iterator[T]], items: "queue.Queue[T | _End]", stop: threading.Event) -> None:
    error: BaseException | None = None
    try:
        for item in make():
            if not _put(items, item, stop):
                return
            del item
    except BaseException as raised:  # the consumer raises it
        error = raised
    _put(items, _End(error), stop)


def _put(items: "queue.Queue[T | _End]", item: T | _End, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            items.put(item, timeout=_LOOK_EVERY_S)
            return True
        except queue.Full:
            continue
    return False

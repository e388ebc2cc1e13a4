"""Threads that work side by side and take turns where order matters.

Knows threads; it does not know what they do.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

THREADS = 2


def in_threads(tasks: Sequence[Callable[[], None]], threads: int = THREADS) -> None:
    """Run tasks, begun in their order; the first error is raised when all have ended."""
    with ThreadPoolExecutor(threads, "join") as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


class Turns:
    """Turns by number: 0, 1, 2 and so on."""

    def __init__(self) -> None:
        self._next = 0
        self._moved = threading.Condition()

    def of(self, number: int) -> "Turn":
        """A turn; it is over when its `with` block is left, by an error too."""
        return Turn(self, number)

    def wait(self, number: int) -> None:
        """Wait until the turns before this one are over."""
        with self._moved:
            self._moved.wait_for(lambda: self._next == number)

    def end(self, number: int) -> None:
        """Let the next turn begin."""
        with self._moved:
            self._moved.wait_for(lambda: self._next == number)
            self._next += 1
            self._moved.notify_all()


class Turn:
    """One turn of `Turns`."""

    def __init__(self, turns: Turns, number: int) -> None:
        self._turns, self._number = turns, number

    def __enter__(self) -> "Turn":
        return self

    def wait(self) -> None:
        """Wait until it is this one's turn."""
        self._turns.wait(self._number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.end(self._number)

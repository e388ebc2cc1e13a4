"""The drain: a process beside a server that brings what was logged into the lakehouse.

Knows how the process is started, kept up and ended; it does not know what a log is made of.

A commit takes part of a second of work; in the server's own process answers would wait for it.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rayplat.core.settings import Settings
from rayplat.core.telemetry import configure_logging, get_logger
from rayplat.features.server.parent import end_with_parent

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from rayplat.features.parity.log import FeatureLog

    OpenLog = Callable[[Settings], FeatureLog]

LOOK_S = 1.0
"""So often it looks for files that are closed."""

MUCH = 1 << 30
"""So many bytes that wait make it take its share of the processor: an eighth of what may wait at all."""

_END_S = 10.0


@contextmanager
def draining(settings: Settings, open_log: "OpenLog | None") -> Iterator[None]:
    """Keep a drain running meanwhile; None: there is nothing to drain.

    Args:
        open_log: opens the log; it must pickle.
    """
    if open_log is None:
        yield
        return
    stop = threading.Event()
    running: list[BaseProcess] = []
    keeper = threading.Thread(target=_keep, args=(settings, open_log, stop, running), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        for process in running:
            process.terminate()
        keeper.join(_END_S)


def _keep(
    settings: Settings, open_log: "OpenLog", stop: threading.Event, running: "list[BaseProcess]"
) -> None:
    """Start the drain, and start it again when it has ended."""
    context = multiprocessing.get_context("spawn")
    while not stop.is_set():
        process = context.Process(target=_drain, args=(settings, open_log), daemon=True)
        process.start()
        running[:] = [process]
        if stop.is_set():
            process.terminate()
        process.join()
        if not stop.wait(LOOK_S):
            get_logger("features.server").warning("the drain has ended", exit_code=process.exitcode)


class Place:
    """Which share of the processor the drain takes: none that others want, until much waits for it.

    Args:
        much: so many waiting bytes make it ask for the share of any process.
    """

    def __init__(self, much: int) -> None:
        self._much = much
        self._back: bool | None = None

    def take(self, waiting: int) -> bool:
        """Take the place that so many waiting bytes ask for; whether it stands back."""
        # Back again only at half of it: changing to and fro would help nobody.
        back = waiting <= (self._much if self._back is not False else self._much // 2)
        if back != self._back:
            self._back = back
            _schedule(idle=back)
        return back


def _schedule(*, idle: bool) -> None:
    """Schedule all threads of this process: where nobody else wants the processor, or as any process."""
    try:
        policy = os.SCHED_IDLE if idle else os.SCHED_OTHER
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))
    except (AttributeError, OSError):  # another system than Linux, or one that does not allow it
        if idle:
            os.nice(19 - os.nice(0))


def _drain(settings: Settings, open_log: "OpenLog") -> None:
    ended = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    end_with_parent()
    place = Place(MUCH)
    place.take(0)
    configure_logging(settings.log)
    log = open_log(settings)
    while not ended.wait(LOOK_S):
        try:
            log.recover(lambda: place.take(log.waiting()))
        # What is logged is safe in its files: a lakehouse that is away for a while must not end the drain.
        except Exception as error:
            get_logger("features.server").warning("the log waits for the lakehouse", error=str(error))

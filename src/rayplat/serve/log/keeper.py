"""The keeper: one of the replicas of a machine keeps a process that ships the prediction log.

Knows which replica it is, how the process is started and that it ends with its replica; it does not know how
predictions are shipped (`shipping`).

A commit takes a second of work, and answers would wait for it: so it is done by another process, which runs
only where nobody else wants the processor. It is told the settings by a pipe, for they hold passwords, and it
ends when the pipe does, after it has shipped once more. When its replica dies, another replica's keeper takes
its place.
"""

import contextlib
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import orjson

from rayplat.core.errors import ConflictError, RayplatError
from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.core.telemetry import configure_logging, get_logger
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.places import ship_all
from rayplat.serve.log.slot import locked

EVERY_S = 15.0
"""So long a prediction waits in its file, about, before it is shipped."""

_END_S = 30.0
_GRACE_S = 1.0


class Keeper:
    """Keeps the shipping process of a machine, if no other replica does.

    Args:
        folder: where the keepers of a machine agree on one of them.
        settings: of the platform.
        every_s: how often is shipped.
    """

    def __init__(self, folder: Path, settings: Settings, every_s: float = EVERY_S) -> None:
        self._folder = folder
        self._settings = settings
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to keep. To be called once."""
        self._thread = threading.Thread(target=self._keep, name="prediction-log-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the process ship once more and end, if this keeper has one. May be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_GRACE_S)

    def _keep(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                held = locked(self._folder / "shipper.lock", wait=False)
            except OSError as error:
                get_logger("serve.log").warning("nobody ships predictions", error=str(error))
                continue
            if held is not None:
                try:
                    self._run()
                finally:
                    os.close(held)

    def _run(self) -> None:
        """Run the process until it ends or this keeper does."""
        command = [sys.executable, "-m", "rayplat.serve.log.keeper", str(self._every_s)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            if process.stdin is not None:
                process.stdin.write(self._settings.model_dump_json().encode() + b"\n")
                process.stdin.flush()
            while process.poll() is None and not self._stop.wait(0.2):
                continue
        except OSError as error:
            get_logger("serve.log").warning("the shipper of predictions has ended", error=str(error))
        finally:
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def work(every_s: float, told: int) -> None:
    """Ship now and then, until the pipe `told` ends; its first line is the settings."""
    with os.fdopen(told, "rb", buffering=0, closefd=False) as pipe:
        settings = Settings(**orjson.loads(pipe.readline()))
    configure_logging(settings.log)
    os.nice(19)
    lake, bus = Lakehouse(settings), EventBus()
    ending = False
    while True:
        try:
            ship_all(settings, lake, bus, wait=False)
        except ConflictError:
            # Another machine has shipped the same topic: what is left will be shipped the next time.
            get_logger("serve.log").debug("predictions were shipped by another machine")
        except RayplatError as error:
            # What is in the files is safe: a lakehouse that is away for a while must not end the shipping.
            get_logger("serve.log").warning("predictions wait for the lakehouse", error=str(error))
        if ending:
            return
        # What the last replica of a machine has answered is shipped before the machine may go.
        ending = bool(select.select([told], [], [], every_s)[0])


if __name__ == "__main__":
    work(float(sys.argv[1]), sys.stdin.fileno())

"""Whether a store may be torn: written under a boot of the machine that is over, and never synced.

Knows marks in the store's folder, one a writing process; it does not know what a store holds.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from rayplat.core.telemetry import get_logger

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PREFIX = "unsynced."


class Mark:
    """The mark of this process on a store.

    Args:
        folder: of the store.
        boot: what tells one boot of the machine from another; where it cannot be told, all are one.
    """

    def __init__(self, folder: Path, boot: str | None = None) -> None:
        self._folder = folder
        self._boot = _this_boot() if boot is None else boot
        self._set = False

    def set(self) -> None:
        """Mark the store before the first commit; on the disk when it returns."""
        if self._set:
            return
        path = self._folder / f"{_PREFIX}{os.getpid()}"
        with path.open("w") as file:
            file.write(self._boot)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._set = True

    def lift(self, sync: Callable[[], object]) -> None:
        """Bring all to the disk; then the mark goes, and those of processes that are gone."""
        gone = [path for path in self._folder.glob(f"{_PREFIX}*") if not _alive(path)]
        if self._set or gone:
            sync()
        for path in gone:
            path.unlink(missing_ok=True)
        if self._set:
            (self._folder / f"{_PREFIX}{os.getpid()}").unlink(missing_ok=True)
            self._set = False

    def begin_anew_if_torn(self) -> bool:
        """Remove a store that another boot has left unsynced; whether it was."""
        with (self._folder / "begin.lock").open("w") as lock:
            # Of processes that start together after a boot one finds the marks, and the others its new store.
            fcntl.flock(lock, fcntl.LOCK_EX)
            marks = list(self._folder.glob(f"{_PREFIX}*"))
            if all(_boot_of(path) in ("", self._boot) for path in marks):
                return False
            get_logger(__name__).warning(
                "online store begun anew: the machine went down while it was written; materialize again",
                path=str(self._folder),
            )
            for path in (self._folder / "data.mdb", self._folder / "lock.mdb", *marks):
                path.unlink(missing_ok=True)
            return True


def _this_boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _boot_of(mark: Path) -> str:
    try:
        return mark.read_text()
    except FileNotFoundError:  # its process has just lifted it
        return ""


def _alive(mark: Path) -> bool:
    try:
        os.kill(int(mark.name.removeprefix(_PREFIX)), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True

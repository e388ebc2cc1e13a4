"""Which processes of a machine live: each holds the lock of a file, which the kernel lets go when it dies.

Knows names, files and locks; it does not know what depends on a process. Of a process of another machine, or
of one whose file is gone, it says nothing.
"""

import contextlib
import os
import secrets
import time
from pathlib import Path

from rayplat.serve.log.slot import locked

_KEPT_S = 86_400.0


class Alive:
    """This process's sign of life, and a look at those of others. Safe for many threads.

    Args:
        folder: where the processes of a machine have their files.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._forget()
        self.name = secrets.token_hex(4)
        held = locked(self._path(self.name), wait=False)
        while held is None:  # the name is taken
            self.name = secrets.token_hex(4)
            held = locked(self._path(self.name), wait=False)
        self._held = held

    def is_dead(self, name: str) -> bool:
        """Whether the process of a name is known to have died."""
        if name == self.name or not self._path(name).exists():
            return False
        held = locked(self._path(name), wait=False)
        if held is None:
            return False
        os.close(held)
        return True

    def close(self) -> None:
        """Give the sign no more."""
        self._path(self.name).unlink(missing_ok=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.alive"

    def _forget(self) -> None:
        """Remove files of processes that died long ago."""
        for path in self._folder.glob("*.alive"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _KEPT_S and self._is_free(path):
                    path.unlink()

    def _is_free(self, path: Path) -> bool:
        held = locked(path, wait=False)
        if held is None:
            return False
        os.close(held)
        return True

"""The backlog: what waits for the lakehouse, and which answers are refused until less does.

Knows the sizes of files in a folder and how fast they go; it does not know what stands in them, nor who
takes them away.

Where more waits than the mark, questions about many entities are refused, and told when there will be room;
those about few go on, up to the most that may wait at all. So the log is as fast as the lakehouse in the
long run, and nobody finds out by a full disk.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rayplat.core.errors import UnavailableError
from rayplat.core.telemetry import get_logger

MUCH_WAITING_BYTES = 2 << 30
"""So much waits before questions about many entities are refused."""

MOST_WAITING_BYTES = 8 << 30
"""So much may wait at all."""

FEW = 10
"""Questions about so many entities go on: a person waits for them, and they fill no disk."""

LOOK_S = 0.25
_LONGEST_S = 60
_FILE_BYTES = 32 << 20


class BacklogError(UnavailableError):
    """Too much waits for the lakehouse: ask again later.

    Args:
        what, mend: see `RayplatError`.
        retry_after_s: when there will be room, in seconds.
    """

    def __init__(self, what: str, mend: str, retry_after_s: int) -> None:
        super().__init__(what, mend)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type["BacklogError"], tuple[str, str, int]]:
        return type(self), (self.what, self.mend, self.retry_after_s)


@dataclass(slots=True)
class Backlog:
    """The backlog of a folder, as one of the processes that write into it sees it.

    Safe to use from many threads.

    Below the mark the folder is looked at when a file is begun; what others have written since is not known,
    which is less than a file of each.

    Args:
        folder: where the files are.
        suffixes: of their names.
        much, most: see `MUCH_WAITING_BYTES` and `MOST_WAITING_BYTES`.
        file_bytes: of a whole file, about.
        clock: seconds.
    """

    folder: Path
    suffixes: Sequence[str]
    much: int = MUCH_WAITING_BYTES
    most: int = MOST_WAITING_BYTES
    file_bytes: int = _FILE_BYTES
    clock: Callable[[], float] = time.monotonic
    bytes: int = 0
    _files: dict[str, int] = field(default_factory=dict)
    _looked: float = -math.inf
    # Since when there is too much, and what has gone since then.
    _since: float | None = None
    _gone: float = 0.0
    _beyond: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, size: int, beyond: int = 0) -> None:
        """So many bytes were written here; beyond them a file that is written still counts for more.

        A file that is closed counts by its size alone: then `beyond` is what it has counted for, taken back.
        """
        with self._lock:
            self.bytes += size + beyond
            self._beyond += beyond

    def admit(self, entities: int) -> None:
        """Let an answer about so many entities be logged.

        Raises:
            BacklogError: it must not be now.
        """
        if self.bytes <= self.much:
            return
        with self._lock:
            self._admit(entities)

    def _admit(self, entities: int) -> None:
        if self.clock() - self._looked >= LOOK_S:
            self.look()
        bound = self.most if entities <= FEW else self.much
        if self.bytes > bound:
            raise BacklogError(
                f"{self.bytes:,} bytes of the feature log wait for the lakehouse, more than {bound:,}",
                f"ask again later, or about at most {FEW} entities",
                self._retry_after_s(bound),
            )

    def look(self) -> None:
        """Look at the folder."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        now, before = self.clock(), self._files
        self._looked, self._files = now, _sizes(self.folder, self.suffixes)
        self.bytes = sum(self._files.values()) + self._beyond
        if self._since is not None:
            self._gone += sum(size for name, size in before.items() if name not in self._files)
            if self.bytes <= self.much // 2:  # around the mark it is one and the same time of too much
                self._since, self._gone = None, 0.0
            elif now - self._since > _LONGEST_S:  # what was long ago tells little of what will be
                self._since, self._gone = now - (now - self._since) / 2, self._gone / 2
        elif self.bytes > self.much:
            self._since = now
            get_logger(__name__).warning("feature_log_refuses", waiting_bytes=self.bytes, mark=self.much)

    def _retry_after_s(self, bound: int) -> int:
        """When no more than `bound` will wait, at the rate at which files have gone."""
        since = self._looked if self._since is None else self._since
        # As long as none has gone, the first of them is taken to be about to.
        rate = max(self._gone, self.file_bytes) / max(self.clock() - since, LOOK_S)
        return min(_LONGEST_S, max(1, math.ceil((self.bytes - bound) / rate)))


def _sizes(folder: Path, suffixes: Sequence[str]) -> dict[str, int]:
    found = {}
    for path in folder.glob("*"):
        if path.suffix in suffixes:
            with suppress(FileNotFoundError):  # the lakehouse has just taken it
                found[path.name] = path.stat().st_size
    return found

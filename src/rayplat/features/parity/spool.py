"""Spools: files in which served vectors wait until the lakehouse has them, each of them once.

Knows how a file is held by the process that writes it, and how one that is held no more becomes
snapshots, one of each part; it does not know what stands in it.

A spool is committed under its name: the snapshot says which spool or which part of one it holds. Whoever
recovers later commits the spools of processes that are gone, and deletes those that snapshots name. So what
was written whole is in the table once, wherever a process is killed. Writes are in the operating system's
hands when they return, not yet on the disk: a power cut may take the last seconds.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol, cast

import pyarrow as pa

from rayplat.core.ids import new_prediction_id
from rayplat.features.lake import Lake
from rayplat.features.parity.vectors import SCHEMA, VECTORS

SPOOL = "rayplat.feature_log.spool"
"""The snapshot property that names the spool; a part of one but the first has its number behind a slash."""

_MOST_PIECES = 1024
"""So many one system call takes (POSIX's IOV_MAX, on Linux)."""

Read = Callable[[bytes, str], Iterable[pa.Table]]
"""Makes rows of `vectors.SCHEMA` of what stands in a spool of the given name, in parts that are the same
whenever it is read; half a record at the end, which a killed process leaves, is left out."""


class _Appendable(Protocol):
    def append(self, data: pa.Table, properties: Mapping[str, str] = ...) -> int: ...


class Spool:
    """A file that one process appends to; locked as long as that process lives.

    Args:
        folder: made when it does not exist; several processes may share it.
        suffix: tells what stands in it.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{new_prediction_id()}{suffix}"
        # Under another name until it is locked: nobody may take it for one that was left behind.
        bare = self.path.with_suffix(".new")
        self._file = bare.open("ab", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        bare.rename(self.path)
        self.rows = self.bytes = 0
        self._since = time.monotonic()

    def write(self, data: Sequence[bytes], rows: int) -> None:
        """Append whole records, in pieces of any size, by one write; or nothing.

        Raises:
            OSError: nothing was appended.
        """
        number = self._file.fileno()
        size = sum(map(len, data))
        try:
            done = os.writev(number, data if len(data) <= _MOST_PIECES else [b"".join(data)])
            if done < size:
                left = memoryview(b"".join(data))[done:]
                while left:
                    left = left[os.write(number, left) :]
        except OSError:
            os.ftruncate(number, self.bytes)
            raise
        self.bytes += size
        self.rows += rows

    def left(self, seconds: float) -> float:
        """Seconds until it is due, `seconds` after it was begun."""
        return max(0.0, self._since + seconds - time.monotonic())

    def due(self, rows: int, seconds: float) -> bool:
        """Whether it is to be committed."""
        return self.rows >= rows or self.left(seconds) == 0.0

    def close(self, counts: int = 0) -> None:
        """Let go of the file and its lock.

        Args:
            counts: so many bytes it counts in the backlog at least: it ends with a hole up to them.
        """
        if counts > self.bytes:
            with suppress(OSError):  # it counts for less then
                os.ftruncate(self._file.fileno(), counts)
        self._file.close()


def waiting(folder: Path, suffix: str) -> int:
    """How many bytes the spools of a suffix hold."""
    held = 0
    for path in folder.glob(f"*{suffix}"):
        with suppress(FileNotFoundError):  # the lakehouse has just taken it
            held += path.stat().st_size
    return held


def recover(path: Path, lake: Lake, read: Read) -> int:
    """Commit those parts of a spool that no snapshot has, then delete it; how many vectors were committed.

    It is 0 where its process lives.
    """
    try:
        file: IO[bytes] = path.open("rb")
    except FileNotFoundError:
        return 0  # another process was faster
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        if not path.exists():
            return 0
        table = lake.ensure_schema(VECTORS, SCHEMA)
        have = {snapshot.properties.get(SPOOL) for snapshot in table.history()}
        committed = 0
        for number, rows in enumerate(read(file.read(), path.name)):
            part = f"{path.name}/{number}" if number else path.name
            if rows.num_rows and part not in have:
                cast("_Appendable", table).append(rows, {SPOOL: part})
                committed += rows.num_rows
        path.unlink()
        return committed

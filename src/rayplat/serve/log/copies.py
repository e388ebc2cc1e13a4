"""Copies of other machines' slots: the same bytes at the same positions, in folders that ship as slots do.

Knows how a copy grows and what of it may go; it does not know who sends, nor where the rows end up. A copy is
always the beginning of what its owner has written, from some file on, so whoever of the two ships, a position
means the same bytes.
"""

import os
import re
import time
from pathlib import Path

from rayplat.core.errors import UnavailableError, UserError
from rayplat.serve.log.slot import segments, sync_folder, writer_lock
from rayplat.serve.log.wire import Held

MOST_BYTES = 16 << 30
"""So much may the copies of a machine hold."""

_WAIT_S = 0.5
_FOLDER = re.compile(r"[0-9a-f]{16}")
_SLOT = re.compile(r"[0-9]{1,20}")


def folders(place: Path) -> list[Path]:
    """The folders of copies under a place, one for each owner's folder of slots."""
    return sorted(one for one in place.glob("*") if _FOLDER.fullmatch(one.name))


def open_copy(place: Path, folder: str, slot: str) -> "Copy":
    """The copy of a slot, to write to.

    Raises:
        UserError: a name is none.
        UnavailableError: another connection writes to it, or the copies hold too much.
        OSError: the disk does not take it.
    """
    if not (_FOLDER.fullmatch(folder) and _SLOT.fullmatch(slot)):
        raise UserError("a slot is named by 16 hex digits and a number", "send the log's own names")
    if sum(f.stat().st_size for f in place.glob("*/*/*.wal")) > MOST_BYTES:
        raise UnavailableError(f"{place} holds over {MOST_BYTES:,} bytes", "see why they are not shipped")
    path = place / folder / slot
    path.mkdir(parents=True, exist_ok=True)
    named = path.parent / "identity"
    if not named.exists():
        bare = named.with_name(f"identity.{slot}")
        bare.write_text(folder)
        bare.replace(named)
        sync_folder(path.parent)
    end = time.monotonic() + _WAIT_S
    while (held := writer_lock(path)) is None:
        # A connection that is lost may not be closed here yet; a shipper may have removed an old copy.
        if time.monotonic() > end:
            raise UnavailableError(f"{path} is written to by another connection", "ask again in a moment")
        time.sleep(0.01)
        path.mkdir(parents=True, exist_ok=True)
    return Copy(path, held)


class Copy:
    """One copy. Not safe for several threads.

    Args:
        path: its folder.
        held: the descriptor that holds its lock, closed with the copy.
    """

    def __init__(self, path: Path, held: int) -> None:
        self._path = path
        self._held = held
        self._file = -1
        self._start = -1
        self._size = 0

    def end(self) -> Held:
        """How far it goes."""
        found = segments(self._path)
        return Held(found[-1].start, found[-1].path.stat().st_size) if found else Held(None)

    def write(self, start: int, offset: int, data: bytes, *, disk: bool) -> None:
        """Append bytes to the file that starts at a position.

        Raises:
            UserError: they are not the next bytes of the file.
            OSError: the disk does not take them.
        """
        if start != self._start:
            self._open(start)
        if offset != self._size:
            raise UserError(f"the copy has {self._size} bytes of the file, not {offset}", "greet again")
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]
        self._size += len(data)
        if disk:
            os.fdatasync(self._file)

    def forget(self, until: int) -> None:
        """Remove the files that end at or before a position: their owner has shipped them."""
        for segment in segments(self._path):
            if segment.end() <= until:
                segment.path.unlink()

    def close(self) -> None:
        """Let go of it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _open(self, start: int) -> None:
        found = segments(self._path)
        if found and start not in (found[-1].start, found[-1].end()):
            raise UserError(f"the copy ends at {found[-1].end()}, and {start} is not there", "greet again")
        if self._file >= 0:
            os.close(self._file)
        path = self._path / f"{start:020d}.wal"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._start, self._size = start, os.fstat(self._file).st_size
        sync_folder(self._path)

"""A slot: a place for the write-ahead files of one process at a time, with positions that never go back.

Knows how a slot is held, how its files follow each other and what its name is in the lakehouse; it does not
know what the frames mean, nor how they are shipped.

A file is named by the position of its first byte in the slot. A file is never cut: after a write that failed,
and when another process takes the slot over, a new file begins where the last one ends, and what is torn in
between is passed by. So a position means the same bytes for ever, and a single number says what was shipped.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

_SUFFIX = ".wal"
_LOCK = "writer.lock"
_SHIP = "ship.lock"
_MOST_SLOTS = 10_000
_IDENTITY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of a slot: where it is, and the position of its first byte."""

    path: Path
    start: int

    def end(self) -> int:
        """The position behind its last byte now."""
        return self.start + self.path.stat().st_size


def identity(folder: Path) -> str:
    """The name of a folder of slots, made once: a new folder never takes an old one's place.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "identity"
    if not place.exists():
        bare = folder / f"identity.{secrets.token_hex(8)}"
        with bare.open("w") as file:
            file.write(secrets.token_hex(8))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(bare, place)  # the first one stays, whoever else makes one now
        except FileExistsError:
            return identity(folder)
        finally:
            bare.unlink()
        sync_folder(folder)
    found = place.read_text()
    if not _IDENTITY.fullmatch(found):
        raise OSError(f"{place} holds {found[:40]!r}, which is no name of a log")
    return found


def slots(folder: Path) -> list[Path]:
    """The slots of a folder, in order."""
    return sorted((p for p in folder.glob("[0-9]*") if p.is_dir()), key=lambda p: int(p.name))


def segments(slot: Path) -> list[Segment]:
    """The files of a slot, in the order of their positions."""
    found = [Segment(p, int(p.stem)) for p in slot.glob(f"*{_SUFFIX}") if p.stem.isdigit()]
    return sorted(found, key=lambda s: s.start)


def waiting_bytes(slot: Path) -> int:
    """How many bytes the files of a slot have."""
    found = 0
    for segment in segments(slot):
        with contextlib.suppress(FileNotFoundError):  # it has just been shipped
            found += segment.end() - segment.start
    return found


def locked(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock of a file, made when it does not exist; None: another holds it."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(number)
        return None
    return number


def hold(folder: Path) -> "Slot":
    """Hold the first slot that no living process holds; a slot whose process died is taken over.

    Raises:
        OSError: the folder cannot be written.
    """
    identity(folder)
    for number in range(_MOST_SLOTS):
        place = folder / str(number)
        place.mkdir(exist_ok=True)
        held = locked(place / _LOCK, wait=False)
        if held is not None:
            return Slot(place, held)
    raise OSError(f"all {_MOST_SLOTS} slots of {folder} are held")


def hold_new(folder: Path) -> "Slot":
    """Hold a slot that nobody had before and nobody takes over later: copies of it never differ.

    Raises:
        OSError: the folder cannot be written.
    """
    identity(folder)
    while True:
        place = folder / str(time.time_ns())
        with contextlib.suppress(FileExistsError):
            place.mkdir()
            held = writer_lock(place)
            if held is not None:
                return Slot(place, held)


def writer_lock(slot: Path) -> int | None:
    """Be the only one that writes to a slot which exists; None: another does, or the slot is gone."""
    try:
        held = locked(slot / _LOCK, wait=False)
    except FileNotFoundError:
        return None
    if held is None:
        return None
    with contextlib.suppress(FileNotFoundError):  # it was retired before its lock was had
        if (slot / _LOCK).stat().st_ino == os.fstat(held).st_ino:
            return held
    os.close(held)
    return None


def retire(slot: Path, seen: int) -> bool:
    """Remove a slot of which everything was shipped, where nobody writes to it; whether it was so.

    Args:
        seen: the position behind the last byte that was looked at: what came after it is not shipped.
    """
    held = writer_lock(slot)
    if held is None:
        return False
    try:
        found = segments(slot)
        if found and found[-1].end() != seen:
            return False
        shutil.rmtree(slot)
    finally:
        os.close(held)
    return True


def adopt(slot: Path) -> bool:
    """Where nobody writes to a slot, begin a new file, so that the old ones can go; whether it was so."""
    held = locked(slot / _LOCK, wait=False)
    if held is None:
        return False
    found = segments(slot)
    taken = Slot(slot, held)
    if found and found[-1].end() > found[-1].start:
        taken.begin()
    taken.close()
    return True


def ship_lock(slot: Path, *, wait: bool) -> int | None:
    """Be the only one of this machine that ships a slot; None: another does."""
    return locked(slot / _SHIP, wait=wait)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk: a file of which the folder does not know is lost."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class Slot:
    """A held slot. Not safe for several threads.

    Args:
        folder: of the slot.
        held: the descriptor that holds its lock, closed with the slot.
    """

    def __init__(self, folder: Path, held: int) -> None:
        self.folder = folder
        self._held = held
        self._file: int | None = None
        self._size = 0
        self._start = 0

    @property
    def start(self) -> int:
        """The position of the first byte of the file that is written to."""
        return self._start

    @property
    def file(self) -> int:
        """The descriptor of the file that is written to."""
        if self._file is None:
            self.begin()
        return self._file  # type: ignore[return-value]

    @property
    def size(self) -> int:
        """Bytes in the file that is written to."""
        return self._size

    def begin(self) -> None:
        """Close the file and begin the next one, where the last one ends.

        Raises:
            OSError: it cannot be made.
        """
        self._close_file()
        before = segments(self.folder)
        self._start = start = before[-1].end() if before else 0
        path = self.folder / f"{start:020d}{_SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = 0
        sync_folder(self.folder)

    def write(self, data: bytes) -> None:
        """Append whole frames; they survive the process when this returns.

        Raises:
            OSError: it was not written whole; the next write begins another file.
        """
        try:
            number, left = self.file, memoryview(data)
            while left:
                left = left[os.write(number, left) :]
        except OSError:
            self._close_file()
            raise
        self._size += len(data)

    def abandon(self) -> None:
        """Write no more to the file: what it holds is uncertain."""
        self._close_file()

    def close(self) -> None:
        """Let go of the slot."""
        self._close_file()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _close_file(self) -> None:
        number, self._file = self._file, None
        self._size = 0
        if number is not None:
            os.close(number)

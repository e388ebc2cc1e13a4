"""Where checkpoints lie: folders that are filled by several ranks and appear at once, on a disk or in S3.

Knows how a folder is filled aside, made durable, published, listed and removed; it does not know what is in
its files (`index`, `writer`).

On a disk every file is synced before it counts, the folder is renamed when it is whole, and its parent is
synced: what is published survives a power cut. An object store has no rename: files go where they stay, under
names of their attempt, and the folder counts from the moment its index is put, which is one request.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from rayplat.core.errors import UserError
from rayplat.registry.folder import LocalFolders

INDEX = "index.sealed"
_ASIDE = ".tmp-"
_FILE = "file://"


class Attempt(Protocol):
    """A folder while it is filled."""

    def write(self, file: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file of these parts: whole and durable when this returns."""

    def read(self, file: str) -> bytes | None:
        """A small file; None while it is not there."""

    def there(self) -> bool:
        """Whether the folder is being filled still: it was neither published nor discarded."""

    def publish(self, index: bytes) -> bool:
        """Make the folder appear; false when a published one is there already (on a disk)."""

    def discard(self) -> None:
        """Remove what was written."""


class Place(Protocol):
    """The folder of all checkpoints of one run."""

    def begin(self, name: str, token: str) -> Attempt:
        """Begin to fill a folder; ranks that give the same token fill the same one."""

    def names(self) -> list[str]:
        """The names of the folders, sorted; on an object store also of those that are not published."""

    def asides(self) -> list[tuple[str, str]]:
        """Name and token of each attempt that was left behind or is in work."""

    def read(self, name: str, file: str) -> bytes:
        """A file as a whole; FileNotFoundError when it is not there."""

    def read_into(self, name: str, file: str, offset: int, into: memoryview) -> int:
        """Fill `into` with the file's bytes from an offset on; how many there were."""

    def remove(self, name: str) -> None:
        """Remove a folder; it may be absent."""

    def remove_aside(self, name: str, token: str) -> None:
        """Remove what an attempt has left behind."""


def open_place(uri: str) -> Place:
    """The place that a URI names.

    Raises:
        UserError: nothing here can open it.
    """
    if uri.startswith(_FILE):
        return LocalPlace(Path(unquote(uri.removeprefix(_FILE))))
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        filesystem, path = FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{uri!r} cannot be opened: {error}", "use file://, s3:// or gs://") from error
    return ObjectPlace(filesystem, path)


class LocalPlace:
    """A folder on a disk, or on a file system that all nodes share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def begin(self, name: str, token: str) -> Attempt:
        """See `Place`."""
        return _LocalAttempt(self._root / f"{name}{_ASIDE}{token}", self._root / name)

    def names(self) -> list[str]:
        """See `Place`."""
        return LocalFolders().folders(str(self._root))

    def asides(self) -> list[tuple[str, str]]:
        """See `Place`."""
        try:
            with os.scandir(self._root) as entries:
                parted = [entry.name.partition(_ASIDE) for entry in entries]
        except FileNotFoundError:
            return []
        return [(name, token) for name, found, token in parted if found]

    def read(self, name: str, file: str) -> bytes:
        """See `Place`."""
        return (self._root / name / file).read_bytes()

    def read_into(self, name: str, file: str, offset: int, into: memoryview) -> int:
        """See `Place`."""
        descriptor = os.open(self._root / name / file, os.O_RDONLY)
        try:
            done = 0
            while done < len(into):
                read = os.preadv(descriptor, [into[done:]], offset + done)
                if not read:
                    break
                done += read
            return done
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """See `Place`. Its index goes first: what a kill leaves half removed does not count."""
        with contextlib.suppress(FileNotFoundError):
            (self._root / name / INDEX).unlink()
        shutil.rmtree(self._root / name, ignore_errors=True)

    def remove_aside(self, name: str, token: str) -> None:
        """See `Place`."""
        shutil.rmtree(self._root / f"{name}{_ASIDE}{token}", ignore_errors=True)


class _LocalAttempt:
    def __init__(self, aside: Path, target: Path) -> None:
        self._aside, self._target = aside, target
        aside.mkdir(parents=True, exist_ok=True)

    def write(self, file: str, parts: Iterable[bytes | memoryview]) -> None:
        draft = self._aside / f"{file}.draft"
        try:
            with draft.open("wb", buffering=0) as opened:
                for part in parts:
                    _write_all(opened.fileno(), part)
                os.fsync(opened.fileno())
            draft.rename(self._aside / file)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def read(self, file: str) -> bytes | None:
        try:
            return (self._aside / file).read_bytes()
        except FileNotFoundError:
            return None

    def there(self) -> bool:
        return self._aside.is_dir()

    def publish(self, index: bytes) -> bool:
        self.write(INDEX, [index])
        _sync_folder(self._aside)
        try:
            self._aside.rename(self._target)
        except OSError:
            if self._target.exists():
                return False
            raise
        _sync_folder(self._target.parent)
        return True

    def discard(self) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)


class ObjectPlace:
    """A prefix in an object store, or any other `pyarrow.fs.FileSystem`."""

    def __init__(self, filesystem: Any, path: str) -> None:
        self._fs, self._path = filesystem, path

    def begin(self, name: str, token: str) -> Attempt:
        """See `Place`."""
        return _ObjectAttempt(self._fs, f"{self._path}/{name}", token)

    def names(self) -> list[str]:
        """See `Place`."""
        from pyarrow.fs import FileSelector, FileType

        infos = self._fs.get_file_info(FileSelector(self._path, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == FileType.Directory)

    def asides(self) -> list[tuple[str, str]]:
        """See `Place`. What was left behind lies in its own folder, and goes with it."""
        return []

    def read(self, name: str, file: str) -> bytes:
        """See `Place`."""
        with self._fs.open_input_stream(f"{self._path}/{name}/{file}") as stream:
            return bytes(stream.read())

    def read_into(self, name: str, file: str, offset: int, into: memoryview) -> int:
        """See `Place`."""
        with self._fs.open_input_file(f"{self._path}/{name}/{file}") as opened:
            length = min(len(into), max(opened.size() - offset, 0))
            into[:length] = memoryview(opened.read_at(length, offset)).cast("B")
            return int(length)

    def remove(self, name: str) -> None:
        """See `Place`. Its index goes first: what a kill leaves half removed does not count."""
        with contextlib.suppress(OSError):
            self._fs.delete_file(f"{self._path}/{name}/{INDEX}")
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_dir(f"{self._path}/{name}")

    def remove_aside(self, name: str, token: str) -> None:
        """See `Place`."""


class _ObjectAttempt:
    def __init__(self, filesystem: Any, folder: str, token: str) -> None:
        self._fs, self._folder, self._token = filesystem, folder, token
        self._written: list[str] = []

    def write(self, file: str, parts: Iterable[bytes | memoryview]) -> None:
        self._fs.create_dir(self._folder, recursive=True)
        path = f"{self._folder}/{file}"
        self._written.append(path)
        with self._fs.open_output_stream(path) as stream:
            for part in parts:
                stream.write(part)

    def read(self, file: str) -> bytes | None:
        try:
            with self._fs.open_input_stream(f"{self._folder}/{file}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def there(self) -> bool:
        return True

    def publish(self, index: bytes) -> bool:
        self.write(INDEX, [index])
        return True

    def discard(self) -> None:
        for path in self._written:
            with contextlib.suppress(OSError):
                self._fs.delete_file(path)


def _write_all(descriptor: int, part: bytes | memoryview) -> None:
    view = memoryview(part)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(path: Path) -> None:
    """Make names durable: without this a power cut can undo a rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Folders that appear whole or not at all, on a local disk or in an object store.

Knows how to publish, read and remove the files of one folder by its URI; it does not know what the
files mean. On a disk a folder is written aside, synced and renamed. An object store cannot rename,
so there the file named `last` is put last, and a folder without it counts as absent.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from rayplat.core.errors import NotFoundError, UserError

_FILE = "file://"
_ASIDE = ".tmp-"


class FolderStore(Protocol):
    """Where folders live. `path` is what follows the scheme of the URI."""

    def publish(self, path: str, files: Mapping[str, bytes], last: str) -> bool:
        """Make the folder exist with `files`; false when a published one is there already."""

    def read(self, path: str, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError when it is not there."""

    def put(self, path: str, name: str, content: bytes) -> None:
        """Add a file to a published folder, or replace it; readers see the old one or the new."""

    def exists(self, path: str, name: str) -> bool:
        """Whether the file is there."""

    def folders(self, path: str) -> list[str]:
        """The names of the published folders inside, sorted."""

    def remove(self, path: str) -> None:
        """Remove the folder and what is in it; it may be absent."""


class LocalFolders:
    """Folders on a disk: written aside, synced, renamed."""

    def publish(self, path: str, files: Mapping[str, bytes], last: str) -> bool:
        """See `FolderStore`. A rename onto a folder that somebody else published first is refused."""
        target = Path(path)
        if target.exists():
            return False
        aside = target.with_name(f"{target.name}{_ASIDE}{uuid.uuid4().hex[:8]}")
        aside.mkdir(parents=True)
        try:
            for name in [*(n for n in files if n != last), last]:
                _write_synced(aside / name, files[name])
            try:
                aside.rename(target)
            except OSError:
                if target.exists():
                    return False
                raise
            _sync_folder(target.parent)
            return True
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def read(self, path: str, name: str) -> bytes:
        """See `FolderStore`."""
        return (Path(path) / name).read_bytes()

    def put(self, path: str, name: str, content: bytes) -> None:
        """See `FolderStore`."""
        aside = Path(path) / f"{name}{_ASIDE}{uuid.uuid4().hex[:8]}"
        try:
            _write_synced(aside, content)
            aside.rename(Path(path) / name)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(Path(path))

    def exists(self, path: str, name: str) -> bool:
        """See `FolderStore`."""
        return (Path(path) / name).is_file()

    def folders(self, path: str) -> list[str]:
        """See `FolderStore`. Folders that were being written when a process died are not named."""
        try:
            with os.scandir(path) as entries:
                return sorted(e.name for e in entries if e.is_dir() and _ASIDE not in e.name)
        except FileNotFoundError:
            return []

    def remove(self, path: str) -> None:
        """See `FolderStore`."""
        shutil.rmtree(path, ignore_errors=True)


class ObjectFolders:
    """Folders in an object store (or any `pyarrow.fs.FileSystem`), the file named `last` put last."""

    def __init__(self, filesystem: Any) -> None:
        self._fs = filesystem

    def publish(self, path: str, files: Mapping[str, bytes], last: str) -> bool:
        """See `FolderStore`."""
        if self.exists(path, last):
            return False
        self._fs.create_dir(path, recursive=True)
        for name in [*(n for n in files if n != last), last]:
            with self._fs.open_output_stream(f"{path}/{name}") as stream:
                stream.write(files[name])
        return True

    def read(self, path: str, name: str) -> bytes:
        """See `FolderStore`."""
        with self._fs.open_input_stream(f"{path}/{name}") as stream:
            return bytes(stream.read())

    def put(self, path: str, name: str, content: bytes) -> None:
        """See `FolderStore`."""
        with self._fs.open_output_stream(f"{path}/{name}") as stream:
            stream.write(content)

    def exists(self, path: str, name: str) -> bool:
        """See `FolderStore`."""
        return bool(self._fs.get_file_info(f"{path}/{name}").is_file)

    def folders(self, path: str) -> list[str]:
        """See `FolderStore`. Whether one is published shows when its last file is read."""
        from pyarrow.fs import FileSelector, FileType

        infos = self._fs.get_file_info(FileSelector(path, allow_not_found=True))
        return sorted(i.base_name for i in infos if i.type == FileType.Directory)

    def remove(self, path: str) -> None:
        """See `FolderStore`. The deletion of what is absent is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_dir(path)


def open_folders(uri: str) -> tuple[FolderStore, str]:
    """The store that keeps `uri` and the path inside it.

    Raises:
        UserError: the URI has no scheme, or one that nothing here can open.
    """
    if uri.startswith(_FILE):
        return LocalFolders(), unquote(uri.removeprefix(_FILE))
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        filesystem, path = FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{uri!r} cannot be opened: {error}", "use file://, s3:// or gs://") from error
    return ObjectFolders(filesystem), path


def read_file(uri: str, name: str) -> bytes:
    """The bytes of a file of a published folder.

    Raises:
        NotFoundError: the folder or the file is not there.
    """
    store, path = open_folders(uri)
    try:
        return store.read(path, name)
    except FileNotFoundError as error:
        raise NotFoundError(f"{uri}/{name} does not exist", "check the URI, or write it again") from error


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make the rename itself durable: without this a power cut can undo it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

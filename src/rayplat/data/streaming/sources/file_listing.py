"""The files of a folder or bucket: which are there, whole, and meant.

Knows how names are matched and when a file is taken to be whole; it does not know which were read.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pyarrow.fs as pafs

from rayplat.core.errors import NotFoundError, UnavailableError

_NOT_YET = (".tmp", ".crc")
_AT_ONCE = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Arrived:
    """A file as it is: when it was changed last (UTC), its path below the folder, its size, its ETag.

    The ETag is that of an object store; empty on a local disk. Ordered as files are read.
    """

    modified: datetime
    path: str
    bytes: int
    etag: str = ""


class Folder:
    """A folder or bucket, looked at recursively.

    Args:
        system: the file system; `root`: the folder's path in it.
        called: the folder as it is declared, for messages.
        pattern: a glob on the path below the folder: `*` within a name, `**` across folders.
        settle: how long a file must be unchanged on a local disk, by this machine's clock. An object
            appears whole, and so does a file that is renamed into the folder.
    """

    def __init__(
        self, system: pafs.FileSystem, root: str, called: str, pattern: str, settle: timedelta
    ) -> None:
        self.system = system
        self.called = called
        self._root = root.rstrip("/")
        self._matches = re.compile(_regex(pattern)).fullmatch
        self._local = isinstance(system, pafs.LocalFileSystem)
        self._settle = settle if self._local else timedelta(0)

    def files(self) -> list[Arrived]:
        """The files that are there and whole, in the order in which they are read; without ETags.

        Raises:
            NotFoundError: there is no such folder.
            UnavailableError: it cannot be listed.
        """
        selector = pafs.FileSelector(self._root, recursive=True, allow_not_found=not self._local)
        try:
            listed = self.system.get_file_info(selector)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"there is no folder {self.called!r}", "make it, or correct the table's source"
            ) from error
        except OSError as error:
            raise self._unavailable(error) from error
        latest = datetime.now(UTC) - self._settle
        found = [self._arrived(info) for info in listed if info.is_file]
        return sorted(file for file in found if self._meant(file.path) and file.modified <= latest)

    def tagged(self, files: list[Arrived]) -> list[Arrived]:
        """The files with the ETags of an object store.

        Raises:
            UnavailableError: one of them cannot be asked about.
        """
        if self._local or not files:
            return files
        with ThreadPoolExecutor(min(_AT_ONCE, len(files))) as pool:
            tags = pool.map(lambda file: self.etag(file.path), files)
            return [replace(file, etag=tag) for file, tag in zip(files, tags, strict=True)]

    def etag(self, path: str) -> str:
        """The ETag of an object; empty where the store has none.

        Raises:
            UnavailableError: it cannot be asked about.
        """
        if self._local:
            return ""
        try:
            with self.system.open_input_stream(self.inside(path), compression=None) as stream:
                told = stream.metadata() or {}
        except OSError as error:
            raise self._unavailable(error) from error
        return next((_text(value) for name, value in told.items() if _text(name).lower() == "etag"), "")

    def look(self, path: str) -> Arrived | None:
        """A file as it is now; None if it is not there.

        Raises:
            UnavailableError: it cannot be asked about.
        """
        try:
            info = self.system.get_file_info(self.inside(path))
        except OSError as error:
            raise self._unavailable(error) from error
        return replace(self._arrived(info), etag=self.etag(path)) if info.is_file else None

    def inside(self, path: str) -> str:
        """The path of a file in the file system."""
        return f"{self._root}/{path}"

    def _arrived(self, info: pafs.FileInfo) -> Arrived:
        modified = _EPOCH + timedelta(microseconds=(info.mtime_ns or 0) // 1000)
        return Arrived(modified, info.path[len(self._root) + 1 :], info.size or 0)

    def _meant(self, path: str) -> bool:
        hidden = any(part.startswith((".", "_")) for part in path.split("/"))
        return not hidden and not path.endswith(_NOT_YET) and self._matches(path) is not None

    def _unavailable(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"the folder {self.called!r} cannot be read: {error}",
            "see that it is there and may be read, and the settings s3.* where it is a bucket",
        )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _regex(pattern: str) -> str:
    """A glob as a regular expression; `**/` matches no folder, too."""
    parts = []
    for token in re.split(r"(\*\*/|\*\*|\*|\?)", pattern):
        wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token)
        parts.append(re.escape(token) if wild is None else wild)
    return "(?s:" + "".join(parts) + ")"

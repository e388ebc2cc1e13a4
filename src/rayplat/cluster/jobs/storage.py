"""What outlives a cluster besides the history: working folders by their digest, and logs by their job.

Knows the places in the warehouse; it does not know what a job is. A file appears whole or not at all.
"""

import os
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any

from rayplat.cluster.jobs.folder import Package, unpack
from rayplat.core.errors import NotFoundError, UnavailableError
from rayplat.core.settings import Settings

_FILE = "file://"


class JobFiles:
    """The files of one platform's jobs.

    Args:
        settings: `warehouse` holds them, under jobs/; `s3` reaches it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._root = f"{settings.warehouse.rstrip('/')}/jobs"

    def has_package(self, digest: str) -> bool:
        """Whether a working folder is kept."""
        path = self._package(digest)
        if path.startswith(_FILE):
            return Path(path.removeprefix(_FILE)).is_file()
        from pyarrow.fs import FileType

        system, inside = self._system(path)
        return bool(system.get_file_info(inside).type == FileType.File)

    def keep_package(self, package: Package) -> None:
        """Keep a working folder; nothing is done for one that is kept already.

        Raises:
            UnavailableError: the warehouse does not take it.
        """
        if not self.has_package(package.digest):
            self._write(self._package(package.digest), package.to_bytes())

    def read_package(self, digest: str) -> Package:
        """A kept working folder, verified.

        Raises:
            NotFoundError: it is not kept (any more).
            IntegrityError: its bytes are not what was written.
        """
        return unpack(self._read(self._package(digest)), digest)

    def keep_log(self, submission_id: str, text: str) -> str:
        """Keep a job's log, in place of an earlier copy. Returns its address."""
        address = f"{self._root}/logs/{submission_id}.log"
        self._write(address, text.encode())
        return address

    def read_log(self, address: str) -> str:
        """The kept log at an address.

        Raises:
            NotFoundError: it is not there any more.
        """
        return self._read(address).decode("utf-8", "replace")

    def _package(self, digest: str) -> str:
        return f"{self._root}/packages/{digest}.zip"

    def _write(self, address: str, content: bytes) -> None:
        try:
            if address.startswith(_FILE):
                _write_synced(Path(address.removeprefix(_FILE)), content)
                return
            system, inside = self._system(address)
            with system.open_output_stream(inside) as stream:
                stream.write(content)
        except OSError as error:
            raise UnavailableError(
                f"the warehouse does not take {address}: {error}", "look at the setting `warehouse`"
            ) from error

    def _read(self, address: str) -> bytes:
        try:
            if address.startswith(_FILE):
                return Path(address.removeprefix(_FILE)).read_bytes()
            system, inside = self._system(address)
            with system.open_input_stream(inside) as stream:
                return bytes(stream.read())
        except FileNotFoundError as error:
            raise NotFoundError(
                f"{address} is not there", "it was removed from the warehouse: submit the job anew"
            ) from error
        except OSError as error:
            raise UnavailableError(
                f"the warehouse does not hand out {address}: {error}", "look at the setting `warehouse`"
            ) from error

    def _system(self, address: str) -> tuple[Any, str]:
        return self._remote, address.partition("://")[2]

    @cached_property
    def _remote(self) -> Any:
        from pyarrow import fs

        if not self.settings.warehouse.startswith("s3"):
            return fs.FileSystem.from_uri(self.settings.warehouse)[0]
        s3 = self.settings.s3
        given: dict[str, Any] = {
            "endpoint_override": s3.endpoint,
            "region": s3.region,
            "access_key": s3.access_key,
            "secret_key": s3.secret_key,
        }
        return fs.S3FileSystem(**{name: value for name, value in given.items() if value})


def _write_synced(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

"""Storage: the file system behind an address, with the credentials of the settings.

Knows local disks, S3 and what Arrow knows besides; it does not know what the files are.
"""

from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

import pyarrow.fs as pafs

from rayplat.core.errors import UserError
from rayplat.core.settings import S3Settings, Settings
from rayplat.data.lakehouse.objects import FileSystems

_S3 = ("s3", "s3a", "s3n")


def file_systems(settings: Settings) -> FileSystems:
    """`file_system` bound to the settings; pickles, for tasks."""
    return partial(_file_system, s3=settings.s3)


def file_system(address: str, settings: Settings) -> tuple[pafs.FileSystem, str]:
    """The file system of an address, and the path inside it.

    The path is taken as it is written: percent signs are part of a name, as for pyiceberg.

    Args:
        address: `file://`, `s3://`, `gs://` or another address that Arrow knows, or an absolute path.

    Raises:
        UserError: an address that no file system is known for.
    """
    return _file_system(address, settings.s3)


def _file_system(address: str, s3: S3Settings) -> tuple[pafs.FileSystem, str]:
    scheme, separator, rest = address.partition("://")
    if not separator:
        return pafs.LocalFileSystem(), address
    if scheme == "file":
        return pafs.LocalFileSystem(), rest
    if scheme in _S3:
        return _s3(s3), rest
    try:
        system, _ = pafs.FileSystem.from_uri(f"{scheme}://{urlsplit(address).netloc}")
    except (ValueError, OSError) as error:
        raise UserError(
            f"{address!r} has no file system: {error}", "use file://, s3:// or gs:// addresses"
        ) from error
    return system, rest


@cache
def _s3(settings: S3Settings) -> pafs.S3FileSystem:
    # One for each process: it owns threads and connections. Empty arguments: the AWS default chain.
    given: dict[str, Any] = {
        "endpoint_override": settings.endpoint,
        "region": settings.region,
        "access_key": settings.access_key,
        "secret_key": settings.secret_key,
    }
    return pafs.S3FileSystem(**{name: value for name, value in given.items() if value})


def io_properties(settings: Settings) -> dict[str, str]:
    """What pyiceberg's file IO is to be told so that it reaches the same storage."""
    given = {
        "s3.endpoint": settings.s3.endpoint,
        "s3.region": settings.s3.region,
        "s3.access-key-id": settings.s3.access_key,
        "s3.secret-access-key": settings.s3.secret_key,
    }
    return {name: value for name, value in given.items() if value}

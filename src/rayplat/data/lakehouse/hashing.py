"""Hashing: the SHA-256 of a stored file at the speed of the processor.

Knows how bytes get from the page cache or a bucket to the hash without a copy where that is safe; it does
not know what the digest should be.
"""

import errno
import hashlib
import mmap
import os

import pyarrow.fs as pafs

_WINDOW = 8 * 2**20
# Linux 5.14: map the pages now, and say with an error that the disk cannot give them. Without it a bad
# sector behind a mapping ends the process with SIGBUS.
_MADV_POPULATE_READ = 22


def sha256_of(system: pafs.FileSystem, inside: str) -> str:
    """The SHA-256 of a file, hex. The GIL is not held while it is computed, so threads go on beside it.

    Raises:
        OSError: the file is not there or cannot be read.
    """
    if isinstance(system, pafs.LocalFileSystem):
        return _local(inside)
    found = hashlib.sha256()
    with system.open_input_stream(inside) as source:
        while block := source.read(_WINDOW):
            found.update(block)
    return found.hexdigest()


def _local(path: str) -> str:
    found = hashlib.sha256()
    handle = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        if size and not _mapped(handle, size, found):
            found = hashlib.sha256()
            _read(handle, found)
    finally:
        os.close(handle)
    return found.hexdigest()


def _mapped(handle: int, size: int, found: "hashlib._Hash") -> bool:
    """Hash through a mapping, which saves the copy; False where the system cannot do it safely."""
    try:
        mapping = mmap.mmap(handle, size, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return False
    with mapping, memoryview(mapping) as view:
        for at in range(0, size, _WINDOW):
            try:
                mapping.madvise(_MADV_POPULATE_READ, at, min(_WINDOW, size - at))
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return False
                raise OSError(errno.EIO, f"the disk cannot read bytes {at} to {at + _WINDOW}") from error
            with view[at : at + _WINDOW] as window:
                found.update(window)
    return True


def _read(handle: int, found: "hashlib._Hash") -> None:
    buffer = bytearray(2**20)
    os.lseek(handle, 0, os.SEEK_SET)
    with memoryview(buffer) as view:
        while count := os.readv(handle, [view]):
            with view[:count] as window:
                found.update(window)

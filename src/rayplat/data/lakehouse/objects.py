"""Objects: whole files of the warehouse, written once and durable when the call returns.

Knows how bytes get to a local disk or a bucket; it does not know what is in them.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.fs as pafs

Bytes: TypeAlias = bytes | memoryview | pa.Buffer
FileSystems = Callable[[str], tuple[pafs.FileSystem, str]]
"""Gives the file system of an address, and the path inside it; must pickle."""

by_address: FileSystems = pafs.FileSystem.from_uri
"""File systems by the address alone, with the environment's own credentials."""


def put(systems: FileSystems, address: str, data: Bytes) -> None:
    """Write a file. On a local disk its bytes are synced before the call returns.

    The name is new, so nobody can see a half-written file: no metadata names it yet.
    """
    system, inside = systems(address)
    if isinstance(system, pafs.LocalFileSystem):
        _put_local(Path(inside), data)
        return
    with system.open_output_stream(inside) as sink:
        sink.write(pa.py_buffer(data))


def _put_local(path: Path, data: Bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        handle = os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, flags, 0o644)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    except OSError:
        # A full disk: what was begun is of no use to anybody.
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def get(systems: FileSystems, address: str) -> bytes:
    """Read a whole file.

    Raises:
        FileNotFoundError: there is none.
    """
    system, inside = systems(address)
    if isinstance(system, pafs.LocalFileSystem):
        return Path(inside).read_bytes()
    with system.open_input_stream(inside) as source:
        return bytes(source.read())


def remove(systems: FileSystems, address: str) -> None:
    """Delete a file; one that is not there is well."""
    system, inside = systems(address)
    try:
        system.delete_file(inside)
    except FileNotFoundError:
        return

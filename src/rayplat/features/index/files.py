"""The files of one index: written all or not at all, mapped into memory, checked.

Knows bytes, lengths and digests; it does not know which index is wanted.

A folder holds `index.json` (what there is, with lengths and SHA-256 digests), arrays as plain little-endian
numbers, and values that are no numbers as Arrow IPC. It appears under its name by one rename, with all bytes
synced before; a crash leaves a folder that begins with a dot, which `sweep` takes away.
"""

import fcntl
import hashlib
import json
import mmap
import os
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from rayplat.core.errors import BugError, IntegrityError
from rayplat.features.index.built import Column, Index
from rayplat.features.index.keys import Keys
from rayplat.features.index.ranks import Ranks

FORMAT = 2
_MANIFEST = "index.json"
_ARRAYS = ("starts", "directory", "steps", "shape", "table", "numbers")
_RANKS = ("event", "known", "offset", "partition")


def write(index: Index, folder: Path, about: Mapping[str, Any]) -> None:
    """Write an index; where the folder is there already, it stays as it is.

    Args:
        about: what is noted with it, as JSON-able data.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    made.mkdir()
    lock = _lock(made)
    try:
        if index.ranks is None:
            raise BugError("an index without its ranks cannot be written")
        arrays = {name: _array(index, name) for name in _ARRAYS}
        arrays |= {f"rank-{name}": getattr(index.ranks, name) for name in _RANKS}
        data = {f"{name}.bin": _bytes(array) for name, array in arrays.items()}
        with ThreadPoolExecutor(1, "index-digest") as aside:
            digests = {name: aside.submit(hashlib.sha256, content) for name, content in data.items()}
            for name, content in data.items():
                _synced(made / name, content)
        known = {name: digest.result().hexdigest() for name, digest in digests.items()}
        for name, values in _frames(index).items():
            values.write_ipc(made / name, compression="uncompressed", compat_level=pl.CompatLevel.newest())
        manifest = {
            "format": FORMAT,
            "about": dict(about),
            "keys": {"kind": index.keys.kind, "first": index.keys.first, "count": index.keys.count},
            "timeless": index.timeless,
            "rows": index.rows,
            "nulls": [column.null for column in index.columns],
            "arrays": {name: [array.dtype.str, *array.shape] for name, array in arrays.items()},
            "files": {
                path.name: [path.stat().st_size, known.get(path.name) or _sha256(path)]
                for path in sorted(made.iterdir())
            },
        }
        _synced(made / _MANIFEST, json.dumps(manifest, sort_keys=True).encode())
        for path in made.iterdir():
            _sync(path)
        _sync(made)
        _rename(made, folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def sweep(parent: Path) -> None:
    """Delete what writers that died have left; who writes now is let be."""
    for begun in parent.glob(".*"):
        lock = _lock(begun)
        if lock is not None:
            shutil.rmtree(begun, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A lock on a folder that ends with the process; None where another has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _rename(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        # Somebody else has made the same index meanwhile: equal inputs give equal bytes.
        if not (folder / _MANIFEST).exists():
            raise


def about(folder: Path) -> dict[str, Any] | None:
    """What was noted with an index; None where there is none, or one of another format.

    Raises:
        IntegrityError: the note cannot be read.
    """
    manifest = _manifest(folder)
    return None if manifest is None else dict(manifest["about"])


def load(folder: Path, *, ranks: bool = False) -> Index | None:
    """Map an index into memory; None where there is none, or one of another format.

    Args:
        ranks: with what it takes to extend it.

    Raises:
        IntegrityError: a file is missing or has another length than was written.
    """
    manifest = _manifest(folder)
    if manifest is None:
        return None
    for name, (size, _) in manifest["files"].items():
        path = folder / name
        have = path.stat().st_size if path.exists() else None
        if have != size:
            raise _broken(path, f"has {have} bytes, and was written with {size}")
    arrays = {
        name: _mapped(folder / f"{name}.bin", dtype, tuple(shape))
        for name, (dtype, *shape) in manifest["arrays"].items()
        if ranks or not name.startswith("rank-")
    }
    # What the values are is told by columns without rows, because types have no other lasting form.
    empty = pl.read_ipc(folder / "columns.arrow")
    entity = pl.read_ipc(folder / "entity.arrow")
    columns = tuple(
        Column(series.dtype, _kept(folder, position), null)
        for position, (series, null) in enumerate(zip(empty.iter_columns(), manifest["nulls"], strict=True))
    )
    keys = Keys(
        schema=dict(entity.schema),
        named=entity,
        table=arrays["table"],
        numbers=arrays["numbers"],
        **manifest["keys"],
    )
    return Index(
        keys=keys,
        columns=columns,
        starts=arrays["starts"],
        directory=arrays["directory"],
        steps=arrays["steps"],
        shape=arrays["shape"],
        timeless=manifest["timeless"],
        rows=manifest["rows"],
        ranks=Ranks(*(arrays[f"rank-{name}"] for name in _RANKS)) if ranks else None,
    )


def verify(folder: Path) -> None:
    """Compare all files with the digests that they were written with; reads all bytes.

    Raises:
        IntegrityError: a file is not what was written, or there is no index.
    """
    manifest = _manifest(folder)
    if manifest is None:
        raise _broken(folder, "is no index of this version")
    for name, (_, digest) in manifest["files"].items():
        path = folder / name
        found = _sha256(path) if path.exists() else "nothing"
        if found != digest:
            raise _broken(path, f"has the SHA-256 {found}, and was written with {digest}")


def _manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / _MANIFEST
    try:
        read: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _broken(path, f"cannot be read: {error}") from error
    return read if read.get("format") == FORMAT else None


def _broken(path: Path, what: str) -> IntegrityError:
    return IntegrityError(f"{path} {what}", "delete the folder of the index and build it again")


def _array(index: Index, name: str) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = getattr(index.keys if name in ("table", "numbers") else index, name)
    return found


def _bytes(array: npt.NDArray[Any]) -> memoryview | bytes:
    return memoryview(np.ascontiguousarray(array).data).cast("B") if array.size else b""


def _frames(index: Index) -> dict[str, pl.DataFrame]:
    empty = [pl.Series(str(i), [], dtype=column.dtype) for i, column in enumerate(index.columns)]
    entity = index.keys.named if index.keys.kind == "named" else pl.DataFrame(schema=index.keys.schema)
    beside = {
        f"kept-{i}.arrow": pl.DataFrame({"kept": column.kept})
        for i, column in enumerate(index.columns)
        if column.kept is not None
    }
    return {"columns.arrow": pl.DataFrame(empty), "entity.arrow": entity, **beside}


def _kept(folder: Path, position: int) -> pl.Series | None:
    path = folder / f"kept-{position}.arrow"
    return pl.read_ipc(path).to_series() if path.exists() else None


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if 0 in shape:
        return np.zeros(shape, dtype)
    with path.open("rb") as file:
        # Filled at once: a page fault at a time would cost more than the lookups.
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        mapped = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ)
    return np.frombuffer(mapped, dtype).reshape(shape)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _synced(path: Path, data: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

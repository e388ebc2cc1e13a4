"""A folder of files with a state beside them, every byte of it verified when it is read.

Knows the digests and their seal; it does not know what the files mean (`checkpoint`, `result`).
"""

import json
from collections.abc import Mapping
from typing import Any

from rayplat.core.errors import IntegrityError
from rayplat.registry.artifact import digest_of
from rayplat.registry.folder import open_folders, read_file

_STATE = "state.json"
_SEAL = "state.sha256"


def publish(uri: str, files: Mapping[str, bytes], state: Mapping[str, Any]) -> None:
    """Write the folder whole. A readable one that is there stays; a damaged one is replaced.

    That keeps the first of two writers: a run is deterministic, so both write the same.
    """
    digests = {name: digest_of(content) for name, content in files.items()}
    sealed = json.dumps({"state": dict(state), "files": digests}, sort_keys=True).encode()
    content = {**files, _STATE: sealed, _SEAL: digest_of(sealed).encode()}
    store, path = open_folders(uri)
    if store.publish(path, content, last=_SEAL):
        return
    try:
        read(uri)
    except IntegrityError:
        store.remove(path)
        store.publish(path, content, last=_SEAL)


def exists(uri: str) -> bool:
    """Whether the folder is published."""
    store, path = open_folders(uri)
    return store.exists(path, _SEAL)


def read(uri: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files and the state, verified.

    Raises:
        NotFoundError: the folder is not published.
        IntegrityError: a byte is not what was written.
    """
    state, digests = _read_state(uri)
    files = {}
    for name, digest in digests.items():
        files[name] = read_file(uri, name)
        if digest_of(files[name]) != digest:
            raise IntegrityError(f"{uri}/{name} is not what was written", "remove the folder")
    return files, state


def read_state(uri: str) -> dict[str, Any]:
    """The verified state alone; raises as `read` does."""
    return _read_state(uri)[0]


def _read_state(uri: str) -> tuple[dict[str, Any], dict[str, str]]:
    seal = read_file(uri, _SEAL).decode(errors="replace")
    sealed = read_file(uri, _STATE)
    if digest_of(sealed) != seal:
        raise IntegrityError(f"{uri}/{_STATE} is not what was written", "remove the folder")
    content = json.loads(sealed)
    return content["state"], content["files"]

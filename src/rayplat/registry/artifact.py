"""Model artifacts: weights as safetensors, what else a reader needs, and the manifest.

Knows how an artifact is written whole and read with every byte verified; it does not know which
versions exist (`store`). Every SHA-256 is checked before the bytes are parsed: a flipped bit in a
safetensors payload would otherwise load as a slightly different model.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from rayplat.core.errors import ConflictError, IntegrityError, NotFoundError
from rayplat.registry.folder import open_folders, read_file
from rayplat.registry.manifest import FilePin, Manifest

WEIGHTS = "weights.safetensors"
ESTIMATOR = "model."
"""What the file of a model that is an estimator begins with; see `estimators`."""
EVALUATION = "evaluation.parquet"
CURVES = "curves.json"
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"


def digest_of(content: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(content).hexdigest()


def write_artifact(
    uri: str, tensors: Mapping[str, Any], manifest: Manifest, extra: Mapping[str, bytes] | None = None
) -> str:
    """Write an artifact; it appears whole or not at all.

    Args:
        uri: the folder to be, file://, s3:// or gs://.
        tensors: the weights, torch tensors by name.
        manifest: its `files` are filled in here.
        extra: further files by name, such as `evaluation.parquet`.

    Returns:
        The SHA-256 of the manifest. An artifact of the same run_key that is there already stays, and
        its digest is returned: a rerun after a crash finds it.

    Raises:
        ConflictError: an artifact of another run_key is there.
    """
    from safetensors.torch import save

    # Copies, since safetensors refuses tensors that share memory (tied weights).
    weights = {n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}
    # A model that is an estimator of a library has no weights; its file is among the extra ones.
    files = {**({WEIGHTS: save(weights)} if weights else {}), **(extra or {})}
    pins = {name: FilePin(sha256=digest_of(c), size=len(c)) for name, c in files.items()}
    sealed = manifest.model_copy(update={"files": pins}).to_bytes()
    files |= {SEAL: digest_of(sealed).encode(), MANIFEST: sealed}
    store, path = open_folders(uri)
    if store.publish(path, files, last=MANIFEST):
        return digest_of(sealed)
    existing, digest = _verified_manifest(uri, None)
    if existing.run_key != manifest.run_key:
        raise ConflictError(
            f"{uri} holds the artifact of another run ({existing.run_key[:12]})",
            "give each run its own folder, or remove the other artifact",
        )
    return digest


def read_manifest(uri: str, manifest_sha256: str | None = None) -> Manifest:
    """The manifest of an artifact, verified against the registry's digest (or at least its seal).

    Raises:
        NotFoundError: there is no artifact at `uri`.
        IntegrityError: its bytes are not what was written.
    """
    return _verified_manifest(uri, manifest_sha256)[0]


def find_artifact(uri: str) -> tuple[Manifest, str] | None:
    """The manifest and its digest, or None where no artifact is published.

    Raises:
        IntegrityError: an artifact is there, and its bytes are not what was written.
    """
    store, path = open_folders(uri)
    return _verified_manifest(uri, None) if store.exists(path, MANIFEST) else None


def read_artifact(uri: str, manifest_sha256: str | None = None) -> tuple[dict[str, Any], Manifest]:
    """Read an artifact, every file verified before it is parsed.

    Args:
        uri: the folder of the artifact.
        manifest_sha256: the digest that the registry holds. With it nobody can have exchanged the
            artifact; without it, the seal beside the manifest still finds damaged bytes.

    Returns:
        The weights (torch tensors by name, on the CPU; none where the model is an estimator) and the
        manifest.

    Raises:
        NotFoundError: there is no artifact at `uri`.
        IntegrityError: a file's bytes are not what was written.
    """
    from safetensors.torch import load

    manifest, _ = _verified_manifest(uri, manifest_sha256)
    verified = {name: _verified_file(uri, name, pin) for name, pin in manifest.files.items()}
    if WEIGHTS not in verified and not any(name.startswith(ESTIMATOR) for name in verified):
        raise IntegrityError(f"the manifest of {uri} names no {WEIGHTS}", "train the model again")
    return load(verified[WEIGHTS]) if WEIGHTS in verified else {}, manifest


def read_artifact_file(uri: str, name: str, manifest_sha256: str | None = None) -> bytes:
    """The verified bytes of one file of an artifact, such as `evaluation.parquet`.

    Raises:
        NotFoundError: the artifact has no such file.
        IntegrityError: its bytes are not what was written.
    """
    manifest, _ = _verified_manifest(uri, manifest_sha256)
    if name not in manifest.files:
        raise NotFoundError(
            f"the artifact {uri} has no file {name!r}", f"it has: {', '.join(manifest.files)}"
        )
    return _verified_file(uri, name, manifest.files[name])


def _verified_manifest(uri: str, expected: str | None) -> tuple[Manifest, str]:
    content = read_file(uri, MANIFEST)
    seal = read_file(uri, SEAL).decode(errors="replace")
    digest = digest_of(content)
    if digest != seal or (expected is not None and digest != expected):
        raise IntegrityError(
            f"{uri}/{MANIFEST} is not what was written: its SHA-256 is {digest[:16]}…, "
            f"expected {(expected or seal)[:16]}…",
            "do not use this version: roll back to another one, and restore the files from a backup",
        )
    try:
        return Manifest.model_validate_json(content), digest
    except ValidationError as error:
        raise IntegrityError(
            f"{uri}/{MANIFEST} cannot be understood: {error.error_count()} faults",
            "it was written by another version of rayplat: use that version",
        ) from error


def _verified_file(uri: str, name: str, pin: FilePin) -> bytes:
    try:
        content = read_file(uri, name)
    except NotFoundError as error:
        raise IntegrityError(f"{uri}/{name} is gone", "restore the file from a backup") from error
    digest = digest_of(content)
    if digest != pin.sha256 or len(content) != pin.size:
        raise IntegrityError(
            f"{uri}/{name} is not what was written: {len(content)} bytes with SHA-256 {digest[:16]}…, "
            f"expected {pin.size} bytes with {pin.sha256[:16]}…",
            "do not use this version: roll back to another one, and restore the file from a backup",
        )
    return content
